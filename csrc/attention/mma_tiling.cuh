#pragma once

#include <algorithm>

#include "attention/partials.cuh"

namespace specbranch {

inline constexpr int kVectorElements = 8;          // 16 bytes of a 16-bit type
inline constexpr int kMaxSharedBytes = 99 * 1024;  // of a block on every device from 8.0 on

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
  static constexpr int kOtherBytes = 6 * 1024;
  static constexpr int kStages =
      std::min(4, (kMaxSharedBytes - kOtherBytes - kQueryBytes) / kKvTileBytes);
  static_assert(kStages >= 2);
};

/// Shared memory of a block. The partial results of its warps take the place of the tiles.
template <class T, class Tiling>
struct alignas(16) AttentionShared {
  struct alignas(8) Location {
    int page;  // -1: no such key
    int slot;
  };
  struct Tiles {
    T queries[Tiling::kRows][Tiling::kStride];
    T kv[Tiling::kStages][Tiling::kKeys][Tiling::kStride];
  };
  struct WarpResults {
    float out[Tiling::kWarpsN][Tiling::kRows][Tiling::kPartialStride];
    float lse[Tiling::kWarpsN][Tiling::kRows];
  };
  union {
    Tiles tiles;
    WarpResults results;
  };
  Location locations[4][Tiling::kKeys];
  int window_starts[Tiling::kRows];
  MergeScratch merge;

  __device__ Partials partials() {
    return {&results.out[0][0][0], &results.lse[0][0], Tiling::kRows * Tiling::kPartialStride,
            Tiling::kRows, Tiling::kPartialStride};
  }
};

}  // namespace specbranch
