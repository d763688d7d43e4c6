#pragma once

#include <cstdint>

#include "attention/cuda/kv_pipeline.cuh"
#include "attention/cuda/non_finite.cuh"
#include "attention/cuda/partials.cuh"
#include "attention/cuda/row_visibility.cuh"
#include "attention/cuda/warp_attention.cuh"
#include "common/cuda/prims.cuh"

namespace specbranch {

/// The keys of a tile that the rows of a thread see. Rows beyond the block's see what its last
/// does.
template <class T, class Tiling>
__device__ VisibleKeys visible_keys(const RowVisibility& visibility, const RowTile& rows, int begin,
                                    const WarpAttention<T, Tiling>& warp) {
  VisibleKeys visible;
  for (int i = 0; i < 2; ++i) {
    const int r = min(warp.row(i), rows.count - 1);
    visible.row[i] = visibility.visible(r, begin) >> warp.first_key();
  }
  return visible;
}

template <class T, class Tiling>
__device__ void attend(const BranchAttentionLaunch& launch, const RowTile& rows,
                       const RowVisibility& visibility, const KeySplit& split,
                       AttentionShared<T, Tiling>& shared) {
  KvPipeline<T, Tiling> pipeline(launch.params, rows, split, shared);
  copy_queries(launch.params, rows, shared);
  pipeline.start();

  WarpAttention<T, Tiling> warp(launch.params);
  bool all_finite = true;
  for (int begin = split.begin; begin < split.end; begin += Tiling::kKeys) {
    const bool all_visible = visibility.all_visible(begin, begin + Tiling::kKeys);
    warp.score(&shared.tiles.queries[0][0], pipeline.next_keys());
    if (!all_visible) warp.mask(visible_keys(visibility, rows, begin, warp));
    warp.weigh();
    T* values = pipeline.next_values();
    if (!all_visible && keep_finite_values<Tiling>(values)) all_finite = false;
    warp.add_values(values);
  }
  cp_async_wait<0>();
  __syncthreads();  // the results take the place of tiles
  warp.store(shared);
  __syncthreads();
  if (!all_finite) add_non_finite_values(launch.params, rows, visibility, split, shared);
}

/// branch_attention for 16-bit elements in 16-byte vectors. Grid [row tiles, splits, Hkv].
template <class T, class Tiling>
__global__ void __launch_bounds__(kAttentionThreads, kBlocksPerSm)
    branch_attention_kernel(const __grid_constant__ BranchAttentionLaunch launch) {
  SPECBRANCH_DYNAMIC_SHARED(dynamic);
  auto& shared = *reinterpret_cast<AttentionShared<T, Tiling>*>(dynamic);
  const RowTile rows(launch);
  if (rows.count <= 0) return;
  const RowVisibility visibility(launch.params, rows, shared.window_starts);
  const KeySplit split(visibility, launch.plan);
  if (static_cast<int>(blockIdx.y) >= split.count) return;
  attend(launch, rows, visibility, split, shared);
  finish(launch, rows, split.count, shared.partials(), Tiling::kWarpsN, shared.results.merge,
         VectorOutput<T>{launch.params, rows});
}

}  // namespace specbranch
