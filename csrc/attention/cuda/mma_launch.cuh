#pragma once

#include "attention/cuda/branch_attention.cuh"
#include "attention/cuda/mma_launch.h"
#include "common/cuda/launch.cuh"

namespace specbranch {

template <DType dtype>
struct MmaElement;
template <>
struct MmaElement<DType::kFloat16> {
  using Type = __half;
};
template <>
struct MmaElement<DType::kBFloat16> {
  using Type = __nv_bfloat16;
};

template <class T, class Tiling>
void launch_tiling(const BranchAttentionLaunch& launch, const dim3& grid, CudaStream stream) {
  using Shared = AttentionShared<T, Tiling>;
  static_assert(sizeof(Shared) <= kMaxSharedBytes);
  launch_kernel("branch_attention", branch_attention_kernel<T, Tiling>,
                {grid, dim3(kAttentionThreads), sizeof(Shared)}, stream, launch);
}

template <DType dtype, int kHeadDim>
void launch_mma(const BranchAttentionLaunch& launch, const dim3& grid, CudaStream stream) {
  dispatch(launch.plan.tile.rows / 16, MmaWarpsM{}, [&]<int warps_m>() {
    launch_tiling<typename MmaElement<dtype>::Type, MmaTiling<kHeadDim, warps_m>>(launch, grid,
                                                                                  stream);
  });
}

}  // namespace specbranch
