#include "attention/mma_launch.cuh"

template void specbranch::launch_mma<96>(const BranchAttentionLaunch&, const dim3&, CudaStream);
