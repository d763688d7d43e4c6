#pragma once

#include <cuda_runtime.h>

#include "attention/split_plan.h"
#include "common/cuda_stream.h"

namespace specbranch {

/// Enqueues a tensor-core kernel for head dimensions up to kHeadDim. Each of these functions is
/// compiled in a file of its own.
template <DType dtype, int kHeadDim>
void launch_mma(const BranchAttentionLaunch& launch, const dim3& grid, CudaStream stream);

}  // namespace specbranch
