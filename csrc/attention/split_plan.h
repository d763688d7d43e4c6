#pragma once

#include <algorithm>
#include <climits>
#include <cstdint>

#include "attention/mma_kernels.h"
#include "attention/params.h"
#include "common/host_device.h"
#include "common/value_list.h"
#include "common/workspace.h"

// How a CUDA launch of branch_attention divides its work. A request's query rows that share a KV
// head (group_size for each row of the request) are cut into row tiles, its keys into splits; a
// block takes one row tile and one split. The launch is sized by shapes and the device alone, so
// that it can be replayed with other rows and lengths; the splits of a request are cut by its own
// lengths, and blocks that get no rows or no keys end at once.
namespace specbranch {

inline constexpr int kMaxTileRows = 16 * first_at_least(INT_MAX, MmaWarpsM{});
inline constexpr int kMaxSplits = 64;
inline constexpr int kMaxFanIn = 8;       // kMaxFanIn * kMaxFanIn >= kMaxSplits
inline constexpr int kMinFanIn = 4;       // fewer are not worth a level of merging
inline constexpr int kMinSplitTiles = 2;  // fewer key tiles are not worth a block
inline constexpr int kSplitUnit = 64;     // a fixed split size is a multiple: whole key tiles
inline constexpr int kBlocksPerSm = 2;    // the one loads while the other computes

SPECBRANCH_HOST_DEVICE_INLINE int ceil_divide(int a, int b) { return (a + b - 1) / b; }

/// Rows and keys that a block works on at once.
struct TileShape {
  int rows;
  int keys;
};

inline constexpr int kWarps = 4;
inline constexpr int kAttentionThreads = 32 * kWarps;
inline constexpr TileShape kPlainTile{16, 32};

/// The tile of the tensor-core kernels whose warps stand warps_m high, 16 rows each.
constexpr TileShape mma_tile(int head_dim, int warps_m) {
  return {16 * warps_m, std::max(16 * kWarps / warps_m, head_dim <= 128 ? 64 : 32)};
}

constexpr int mma_warps_m(int num_rows) {
  return first_at_least((num_rows + 15) / 16, MmaWarpsM{});
}

constexpr std::int64_t ceil_divide(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

static_assert(first_at_least(kMaxHeadDim, MmaHeadDims{}) == kMaxHeadDim);

/// The head dimension of the kernel that takes p.
constexpr int mma_head_dim(const BranchAttentionParams& p) {
  return first_at_least(static_cast<int>(p.head_dim), MmaHeadDims{});
}

/// Whether the tensor-core kernels take it: 16-bit elements in vectors of 16 bytes.
inline bool uses_tensor_cores(const BranchAttentionParams& p) {
  constexpr std::int64_t kVectorBytes = 16;
  if (p.dtype == DType::kFloat32) return false;
  const auto address = [](const void* data) { return reinterpret_cast<std::intptr_t>(data); };
  const std::int64_t strides =
      p.q_strides.bits() | p.k_strides.bits() | p.v_strides.bits() | p.out_strides.bits();
  const std::int64_t bits =
      address(p.q) | address(p.k_cache) | address(p.v_cache) | address(p.out) | 2 * strides;
  return bits % kVectorBytes == 0;
}

struct SplitPlan {
  int group_size;  // query heads of a KV head
  int num_rows;    // of a KV head, of all requests: T * group_size
  TileShape tile;
  int max_row_tiles;  // of a KV head: a request's last tile may be a part of one
  int max_splits;
  int fan_in;      // partial results that one block merges
  int split_size;  // keys of a split, 0: as many as make the splits of a request equal

  /// p.batch_size, p.num_rows and p.num_qo_heads are not 0.
  SplitPlan(const BranchAttentionParams& p, int num_multiprocessors)
      : group_size(static_cast<int>(p.num_qo_heads / p.num_kv_heads)),
        num_rows(static_cast<int>(p.num_rows) * group_size),
        tile(tile_of(p, num_rows)),
        max_row_tiles(ceil_divide(num_rows, tile.rows) + static_cast<int>(p.batch_size) - 1),
        split_size(static_cast<int>(p.split_size)) {
    if (split_size > 0) {
      max_splits = static_cast<int>(ceil_divide(p.max_positions, p.split_size));
      fan_in = kMaxFanIn;
      return;
    }
    const std::int64_t useful = p.max_positions / (kMinSplitTiles * tile.keys);
    const std::int64_t most = std::clamp<std::int64_t>(useful, 1, kMaxSplits);
    const std::int64_t blocks = kBlocksPerSm * num_multiprocessors / usual_row_tiles(p);
    max_splits = static_cast<int>(std::clamp<std::int64_t>(blocks, 1, most));
    fan_in = kMinFanIn;
    while (fan_in * fan_in < max_splits) ++fan_in;
  }

  /// With a fixed split size the tile is always the same: how many warps share a row's keys decides
  /// in which order they are summed.
  static TileShape tile_of(const BranchAttentionParams& p, int num_rows) {
    if (!uses_tensor_cores(p)) return kPlainTile;
    return mma_tile(static_cast<int>(p.head_dim),
                    mma_warps_m(p.split_size > 0 ? kMaxTileRows : num_rows));
  }

  /// Row tiles of all KV heads where the requests have about as many rows each. There are less than
  /// twice as many at most.
  std::int64_t usual_row_tiles(const BranchAttentionParams& p) const {
    return p.num_kv_heads * std::max<std::int64_t>(p.batch_size, ceil_divide(num_rows, tile.rows));
  }

  /// Counters of arrived blocks: one for each first merge, one for the last.
  SPECBRANCH_HOST_DEVICE_INLINE int tickets_per_tile() const {
    return 1 + ceil_divide(max_splits, fan_in);
  }

  /// Nothing where keys are not split.
  WorkspaceSize workspace(const BranchAttentionParams& p) const {
    if (max_splits == 1) return {0, 0};
    constexpr std::int64_t kFloat = sizeof(float);
    return {max_splits * p.num_kv_heads * num_rows * (p.head_dim + 1) * kFloat,
            p.num_kv_heads * max_row_tiles * tickets_per_tile()};
  }
};

/// Suffices for every launch with this head_dim or a smaller one, but with a fixed split size: keys
/// are split only as far as there are blocks for them in the usual row tiles, which hold all rows,
/// and a row tile has no more tickets than splits.
inline WorkspaceSize largest_attention_workspace(std::int64_t head_dim,
                                                 std::int64_t num_multiprocessors) {
  constexpr std::int64_t kFloat = sizeof(float);
  const std::int64_t blocks = kBlocksPerSm * num_multiprocessors;
  return {blocks * kMaxTileRows * (head_dim + 1) * kFloat, 2 * blocks};
}

/// The argument of the kernels; params.workspace is the scratch.
struct BranchAttentionLaunch {
  BranchAttentionParams params;
  SplitPlan plan;
  unsigned* tickets;
};

}  // namespace specbranch
