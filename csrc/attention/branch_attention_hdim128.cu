#include "attention/mma_launch.cuh"

template void specbranch::launch_mma<128>(const BranchAttentionLaunch&, const dim3&, CudaStream);
