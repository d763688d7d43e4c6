#pragma once

// Functions that both the CPU and the CUDA kernels call.
#if !defined(SPECBRANCH_HOST_DEVICE)
#if defined(__CUDACC__)
#define SPECBRANCH_HOST_DEVICE __host__ __device__
#else
#define SPECBRANCH_HOST_DEVICE
#endif
#endif
