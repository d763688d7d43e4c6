#pragma once

#include <cuda_runtime.h>

#include "attention/split_plan.h"
#include "common/cuda_stream.h"

namespace specbranch {

/// The tensor-core kernels for head dimensions up to kHeadDim: 64, 96, 128 or 256, each compiled in
/// a file of its own.
template <int kHeadDim>
void launch_mma(const BranchAttentionLaunch& launch, const dim3& grid, CudaStream stream);

}  // namespace specbranch
