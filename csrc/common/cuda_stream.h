#pragma once

struct CUstream_st;

namespace specbranch {

/// cudaStream_t, for launchers' declarations that must compile without a CUDA toolkit.
using CudaStream = CUstream_st*;

}  // namespace specbranch
