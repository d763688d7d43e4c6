#pragma once

#include <cstdint>

#include "attention/cuda/mma_tiling.cuh"
#include "attention/cuda/row_tile.cuh"
#include "attention/cuda/row_visibility.cuh"
#include "common/cuda/prims.cuh"

namespace specbranch {

/// Copies rows of 16-bit elements into shared memory, in vectors of 16 bytes. Row r lies
/// rows.offset(r) bytes from base; columns from head_dim on become 0, as do rows that are not
/// rows.present(r), whose offset is that of any row. A thread keeps its column and goes down the
/// rows, so that an address is one sum, and reads all offsets before the first copy.
template <int kRows, int kHeadDim, int kStride, class T, class Rows>
__device__ __forceinline__ void copy_rows_async(T* shared, const T* base, int head_dim,
                                                const Rows& rows) {
  constexpr int kVectors = kHeadDim / kVectorElements;  // threads side by side in a row
  constexpr int kRowStep = kAttentionThreads / kVectors;
  constexpr int kSteps = (kRows + kRowStep - 1) / kRowStep;
  const int first = threadIdx.x / kVectors;
  if (kAttentionThreads % kVectors != 0 && first >= kRowStep) return;
  const auto has_row = [&](int i) { return kRows % kRowStep == 0 || first + i * kRowStep < kRows; };
  std::int64_t offsets[kSteps];
#pragma unroll
  for (int i = 0; i < kSteps; ++i) {
    if (has_row(i)) offsets[i] = rows.offset(first + i * kRowStep);
  }
  const int d = threadIdx.x % kVectors * kVectorElements;
  const bool has_column = d < head_dim;
  const auto* column = reinterpret_cast<const char*>(base + (has_column ? d : 0));
#pragma unroll
  for (int i = 0; i < kSteps; ++i) {
    const int r = first + i * kRowStep;
    if (!has_row(i)) continue;
    cp_async_16(shared + r * kStride + d, column + offsets[i], rows.present(r) && has_column);
  }
}

/// The key and value tiles of a block in turn (keys 0, values 0, keys 1, ...), of which
/// kStages - 1 are on their way while one is in use. Where a tile's keys lie is looked up
/// kLookAhead tiles ahead.
template <class T, class Tiling>
class KvPipeline {
 public:
  using Shared = AttentionShared<T, Tiling>;

  /// Whether the tile kStages - 1 after a tile of keys has keys, too.
  static constexpr bool kKeysAheadOfKeys = Tiling::kStages % 2 == 1;

  __device__ KvPipeline(const BranchAttentionParams& p, const RowTile& rows, const KeySplit& split,
                        Shared& shared)
      : p_(p),
        rows_(rows),
        split_(split),
        shared_(shared),
        keys_(static_cast<const T*>(p.k_cache) + rows.kv_head * p.k_strides.head),
        values_(static_cast<const T*>(p.v_cache) + rows.kv_head * p.v_strides.head) {}

  /// Starts the first loads; whatever was copied before arrives with them.
  __device__ void start() {
    for (int i = threadIdx.x; i < Tiling::kLookAhead * Tiling::kKeys; i += kAttentionThreads) {
      store_offsets(i, locate(i));
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < Tiling::kStages - 1; ++i) {
      if (i % 2 == 0) {
        load_keys();
      } else {
        load_values();
      }
    }
  }

  /// The next tile of keys [kKeys][kStride], in shared memory. It is there until the next call.
  __device__ const T* next_keys() {
    wait();
    if constexpr (kKeysAheadOfKeys) {
      load_keys();
    } else {
      load_values();
    }
    return use();
  }

  /// The values of the same keys.
  __device__ T* next_values() {
    wait();
    if constexpr (kKeysAheadOfKeys) {
      load_values();
    } else {
      load_keys();
    }
    return use();
  }

 private:
  struct Location {
    int page;
    int slot;
  };

  /// The keys of a tile that the split has.
  struct TileRows {
    const std::int64_t* offsets;
    int count;

    __device__ std::int64_t offset(int key) const { return offsets[key]; }
    __device__ bool present(int key) const { return key < count; }
  };

  __device__ static int following(int stage) {
    return stage + 1 == Tiling::kStages ? 0 : stage + 1;
  }

  /// Where the block's i-th key lies; that of another if no row sees it, a place of no matter if
  /// there is none.
  __device__ Location locate(int i) const {
    const int position = max(split_.begin + i, split_.first_key);
    if (position >= split_.end) return {0, 0};
    const int page_size = static_cast<int>(p_.block_table.page_size);
    const std::int32_t* pages = p_.block_table.pages + rows_.b * p_.block_table.row_stride;
    return {pages[position / page_size], position % page_size};
  }

  __device__ static std::int64_t offset_of(const Location& at, const KvStrides& strides) {
    return (at.page * strides.page + at.slot * strides.slot) * static_cast<int>(sizeof(T));
  }

  __device__ void store_offsets(int i, const Location& at) {
    const int slot = i / Tiling::kKeys % Tiling::kOffsetSlots;
    const int key = i % Tiling::kKeys;
    shared_.key_offsets[slot][key] = offset_of(at, p_.k_strides);
    shared_.value_offsets[slot][key] = offset_of(at, p_.v_strides);
  }

  /// The next tile is complete, and all warps are through with the one before it.
  __device__ void wait() {
    cp_async_wait<Tiling::kStages - 2>();
    __syncthreads();
  }

  __device__ T* use() {
    T* tile = &shared_.tiles.kv[use_stage_][0][0];
    use_stage_ = following(use_stage_);
    return tile;
  }

  __device__ bool looks_ahead() const {
    return static_cast<int>(threadIdx.x) < Tiling::kKeys &&
           split_.begin + load_tile_ * Tiling::kKeys < split_.end;
  }

  __device__ int ahead_key() const {
    return (load_tile_ + Tiling::kLookAhead) * Tiling::kKeys + threadIdx.x;
  }

  __device__ __forceinline__ void load_keys() {
    load(keys_, shared_.key_offsets[load_tile_ % Tiling::kOffsetSlots]);
    if (looks_ahead()) ahead_ = locate(ahead_key());
  }

  __device__ __forceinline__ void load_values() {
    load(values_, shared_.value_offsets[load_tile_ % Tiling::kOffsetSlots]);
    if (looks_ahead()) store_offsets(ahead_key(), ahead_);
    ++load_tile_;
  }

  __device__ __forceinline__ void load(const T* base, const std::int64_t* offsets) {
    const int count = split_.end - split_.begin - load_tile_ * Tiling::kKeys;
    if (count > 0) {
      copy_rows_async<Tiling::kKeys, Tiling::kHeadDim, Tiling::kStride>(
          &shared_.tiles.kv[load_stage_][0][0], base, static_cast<int>(p_.head_dim),
          TileRows{offsets, count});
    }
    cp_async_commit();
    load_stage_ = following(load_stage_);
  }

  const BranchAttentionParams& p_;
  const RowTile& rows_;
  const KeySplit& split_;
  Shared& shared_;
  const T* keys_;
  const T* values_;
  Location ahead_{};
  int load_tile_ = 0;
  int load_stage_ = 0;
  int use_stage_ = 0;
};

/// Starts the copy of the block's queries. Rows beyond the tile's become 0.
template <class T, class Tiling>
__device__ void copy_queries(const BranchAttentionParams& p, const RowTile& rows,
                             AttentionShared<T, Tiling>& shared) {
  struct QueryRows {
    const BranchAttentionParams& p;
    const RowTile& rows;

    __device__ std::int64_t offset(int r) const {
      return rows.offset(min(r, rows.count - 1), p.q_strides) * static_cast<int>(sizeof(T));
    }
    __device__ bool present(int r) const { return r < rows.count; }
  };
  copy_rows_async<Tiling::kRows, Tiling::kHeadDim, Tiling::kStride>(
      &shared.tiles.queries[0][0], static_cast<const T*>(p.q), static_cast<int>(p.head_dim),
      QueryRows{p, rows});
}

}  // namespace specbranch
