#pragma once

#include <algorithm>
#include <cstdint>

#include "attention/cuda/partials.cuh"

namespace specbranch {

inline constexpr int kVectorElements = 8;          // 16 bytes of a 16-bit type
inline constexpr int kMaxSharedBytes = 99 * 1024;  // of a block on every device from 8.0 on

/// Of a block. At a latency of 1 us this is 48 GB/s, and twice as much with two blocks on a
/// multiprocessor, whose share of the memory's bandwidth is 25 GB/s on sm_90, 54 GB/s on sm_100.
inline constexpr int kBytesUnderWay = 48 * 1024;

/// How the four warps of a block share a tile of rows and keys: kWarpsM of them side by side take
/// 16 rows each; the others take other keys for the same rows.
///
///              keys 0 ...                    kKeys
///      rows  0 | warp 0       | warp 1           |
///      rows 16 | warp 2       | warp 3           |      kWarpsM = 2
///
/// Rows in shared memory are 16 bytes longer than kHeadDim elements, so the eight rows that an
/// ldmatrix reads at once lie in different banks.
template <int kHeadDim_, int kWarpsM_>
struct MmaTiling {
  static constexpr int kHeadDim = kHeadDim_;
  static constexpr int kWarpsM = kWarpsM_;
  static constexpr int kWarpsN = kWarps / kWarpsM;
  static constexpr int kRows = mma_tile(kHeadDim, kWarpsM).rows;
  static constexpr int kKeys = mma_tile(kHeadDim, kWarpsM).keys;
  static constexpr int kWarpKeys = kKeys / kWarpsN;

  static constexpr int kVectors = kHeadDim / kVectorElements;
  static constexpr int kStride = kHeadDim + kVectorElements;  // of rows in shared memory, elements
  static constexpr int kPartialStride = kHeadDim + 8;         // of rows of a partial result, floats
  static constexpr int kQueryBytes = kRows * kStride * 2;
  static constexpr int kKvTileBytes = kKeys * kStride * 2;
  static constexpr int kOtherBytes = 7 * 1024;
  static constexpr int kFittingStages =
      (kMaxSharedBytes - kOtherBytes - kQueryBytes) / kKvTileBytes;
  /// Buffers of tiles: one in use, the others on their way.
  static constexpr int kStages =
      std::min(1 + kBytesUnderWay / (kKeys * kHeadDim * 2), kFittingStages);
  static_assert(kStages >= 2);

  /// Tiles ahead of a load that its keys are looked up; the loads that start the pipeline, between
  /// which there is no barrier, do not reach as far.
  static constexpr int kLookAhead = kStages / 2;
  static constexpr int kOffsetSlots = kLookAhead + std::max(1, (kStages - 1) / 2);
};

/// Shared memory of a block. The partial results of its warps take the place of the tiles.
template <class T, class Tiling>
struct alignas(16) AttentionShared {
  struct Tiles {
    T queries[Tiling::kRows][Tiling::kStride];
    T kv[Tiling::kStages][Tiling::kKeys][Tiling::kStride];
  };
  struct WarpResults {
    float out[Tiling::kWarpsN][Tiling::kRows][Tiling::kPartialStride];
    float lse[Tiling::kWarpsN][Tiling::kRows];
    MergeScratch merge;
  };
  union {
    Tiles tiles;
    WarpResults results;
  };
  std::int64_t key_offsets[Tiling::kOffsetSlots][Tiling::kKeys];
  std::int64_t value_offsets[Tiling::kOffsetSlots][Tiling::kKeys];
  int window_starts[Tiling::kRows];

  __device__ Partials partials() {
    return {&results.out[0][0][0], &results.lse[0][0], Tiling::kRows * Tiling::kPartialStride,
            Tiling::kRows, Tiling::kPartialStride};
  }
};

}  // namespace specbranch
