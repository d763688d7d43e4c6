#pragma once

// Functions that both the CPU and the CUDA kernels call.
#if !defined(SPECBRANCH_HOST_DEVICE)
#if defined(__CUDACC__)
#define SPECBRANCH_HOST_DEVICE __host__ __device__
#else
#define SPECBRANCH_HOST_DEVICE
#endif
#endif

// The same for small functions of inner loops. Always inlined, so that the variants of a CPU kernel
// never share a copy that was compiled for only one of them.
#define SPECBRANCH_HOST_DEVICE_INLINE SPECBRANCH_HOST_DEVICE inline __attribute__((always_inline))
