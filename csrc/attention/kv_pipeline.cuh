#pragma once

#include <cstdint>

#include "attention/mma_tiling.cuh"
#include "attention/row_tile.cuh"
#include "attention/row_visibility.cuh"
#include "common/cuda_prims.cuh"

namespace specbranch {

/// Copies rows of 16-bit elements into shared memory, in vectors of 16 bytes. Columns from
/// head_dim on become 0. row(r) is the global address of a row, or null for a row of zeros;
/// `anywhere` is some readable address.
template <int kRows, int kHeadDim, int kStride, class T, class Row>
__device__ __forceinline__ void copy_rows_async(T* shared, int head_dim, const T* anywhere,
                                                const Row& row) {
  constexpr int kVectors = kHeadDim / kVectorElements;
#pragma unroll
  for (int first = 0; first < kRows * kVectors; first += kAttentionThreads) {
    const int item = first + threadIdx.x;
    if (kRows * kVectors % kAttentionThreads != 0 && item >= kRows * kVectors) break;
    const int r = item / kVectors;
    const int d = item % kVectors * kVectorElements;
    const T* source = row(r);
    const bool present = source != nullptr && d < head_dim;
    cp_async_16(shared + r * kStride + d, present ? source + d : anywhere, present);
  }
}

/// The key and value tiles of a block in turn (keys 0, values 0, keys 1, ...), of which
/// kStages - 1 are on their way while one is in use. Where a tile's keys lie is looked up two
/// tiles ahead.
template <class T, class Tiling>
class KvPipeline {
 public:
  using Shared = AttentionShared<T, Tiling>;
  using Location = typename Shared::Location;

  __device__ KvPipeline(const BranchAttentionParams& p, const RowTile& rows, const KeySplit& split,
                        Shared& shared)
      : p_(p), rows_(rows), split_(split), shared_(shared) {}

  /// Starts the first loads; whatever was copied before arrives with them.
  __device__ void start() {
    static_assert(2 * Tiling::kKeys <= kAttentionThreads);
    const int tile = threadIdx.x / Tiling::kKeys;
    const int key = threadIdx.x % Tiling::kKeys;
    if (tile < 2) shared_.locations[tile][key] = locate(tile * Tiling::kKeys + key);
    __syncthreads();
    for (int i = 0; i < Tiling::kStages - 1; ++i) load_next();
  }

  /// The next tile [kKeys][kStride], in shared memory. It is there until the next call.
  __device__ T* next() {
    cp_async_wait<Tiling::kStages - 2>();
    __syncthreads();  // the tile is complete, and all warps are through with the one before it
    load_next();
    T* tile = &shared_.tiles.kv[use_stage_][0][0];
    use_stage_ = following(use_stage_);
    return tile;
  }

 private:
  __device__ static int following(int stage) {
    return stage + 1 == Tiling::kStages ? 0 : stage + 1;
  }

  /// Where the block's i-th key lies.
  __device__ Location locate(int i) const {
    const int position = split_.begin + i;
    if (position >= split_.end) return {-1, 0};
    const int page_size = static_cast<int>(p_.block_table.page_size);
    const std::int32_t* pages = p_.block_table.pages + rows_.b * p_.block_table.row_stride;
    return {pages[position / page_size], position % page_size};
  }

  __device__ void load_next() {
    const int tile = load_ / 2;
    if (split_.begin + tile * Tiling::kKeys < split_.end) {
      const bool is_key = load_ % 2 == 0;
      if (is_key) {
        load(p_.k_cache, p_.k_strides, tile);
        if (threadIdx.x < Tiling::kKeys) ahead_ = locate((tile + 2) * Tiling::kKeys + threadIdx.x);
      } else {
        load(p_.v_cache, p_.v_strides, tile);
        if (threadIdx.x < Tiling::kKeys) {
          shared_.locations[(tile + 2) % 4][threadIdx.x] = ahead_;
        }
      }
    }
    cp_async_commit();
    load_stage_ = following(load_stage_);
    ++load_;
  }

  __device__ __forceinline__ void load(const void* cache, const KvStrides& strides, int tile) {
    const T* base = static_cast<const T*>(cache) + rows_.kv_head * strides.head;
    const Location* locations = shared_.locations[tile % 4];
    copy_rows_async<Tiling::kKeys, Tiling::kHeadDim, Tiling::kStride>(
        &shared_.tiles.kv[load_stage_][0][0], static_cast<int>(p_.head_dim), base,
        [&](int key) -> const T* {
          const Location at = locations[key];
          return at.page < 0 ? nullptr : base + at.page * strides.outer + at.slot * strides.slot;
        });
  }

  const BranchAttentionParams& p_;
  const RowTile& rows_;
  const KeySplit& split_;
  Shared& shared_;
  Location ahead_{};
  int load_ = 0;
  int load_stage_ = 0;
  int use_stage_ = 0;
};

/// Starts the copy of the block's queries. Rows beyond the tile's become 0.
template <class T, class Tiling>
__device__ void copy_queries(const BranchAttentionParams& p, const RowTile& rows,
                             AttentionShared<T, Tiling>& shared) {
  const T* base = static_cast<const T*>(p.q);
  copy_rows_async<Tiling::kRows, Tiling::kHeadDim, Tiling::kStride>(
      &shared.tiles.queries[0][0], static_cast<int>(p.head_dim), base, [&](int r) -> const T* {
        return r < rows.count ? base + rows.offset(r, p.q_strides) : nullptr;
      });
}

}  // namespace specbranch
