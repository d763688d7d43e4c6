#pragma once

#include "attention/branch_attention.cuh"
#include "attention/mma_launch.h"
#include "common/cuda_launch.cuh"

namespace specbranch {

template <class T, class Tiling>
void launch_tiling(const BranchAttentionLaunch& launch, const dim3& grid, CudaStream stream) {
  using Shared = AttentionShared<T, Tiling>;
  static_assert(sizeof(Shared) <= kMaxSharedBytes);
  launch_kernel("branch_attention", branch_attention_kernel<T, Tiling>,
                {grid, dim3(kAttentionThreads), sizeof(Shared)}, stream, launch);
}

template <class T, int kHeadDim>
void launch_rows(const BranchAttentionLaunch& launch, const dim3& grid, CudaStream stream) {
  switch (mma_warps_m(launch.plan.num_rows)) {
    case 1:
      return launch_tiling<T, MmaTiling<kHeadDim, 1>>(launch, grid, stream);
    case 2:
      return launch_tiling<T, MmaTiling<kHeadDim, 2>>(launch, grid, stream);
    default:
      return launch_tiling<T, MmaTiling<kHeadDim, 4>>(launch, grid, stream);
  }
}

template <int kHeadDim>
void launch_mma(const BranchAttentionLaunch& launch, const dim3& grid, CudaStream stream) {
  if (launch.params.dtype == DType::kFloat16) {
    launch_rows<__half, kHeadDim>(launch, grid, stream);
  } else {
    launch_rows<__nv_bfloat16, kHeadDim>(launch, grid, stream);
  }
}

}  // namespace specbranch
