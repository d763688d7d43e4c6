#pragma once

#include <cmath>
#include <cstdint>

#include "attention/cuda/mma_tiling.cuh"
#include "attention/cuda/row_visibility.cuh"
#include "common/cuda/prims.cuh"

// A weight of 0 does not keep an infinite or NaN value out of a sum. So where some rows do not see
// some keys, such values are replaced by 0 in shared memory, and in the end (seldom, and slowly)
// added to the rows that do see them.
namespace specbranch {

template <class T>
inline constexpr std::uint32_t kExponentBits = 0x7f80;  // bfloat16
template <>
inline constexpr std::uint32_t kExponentBits<__half> = 0x7c00;

/// Bits 0 and 16 tell which of a pair of elements are infinite or NaN: only these carry beyond
/// their exponent.
template <class T>
__device__ __forceinline__ std::uint32_t non_finite(std::uint32_t pair) {
  constexpr std::uint32_t kBoth = 0x10001;
  constexpr std::uint32_t kLowestBit = kExponentBits<T> & -kExponentBits<T>;
  const std::uint32_t exponents = pair & kBoth * kExponentBits<T>;
  return (exponents + kBoth * kLowestBit) >> 15 & kBoth;
}

template <class T>
__device__ __forceinline__ std::uint32_t keep_finite(std::uint32_t pair) {
  return pair & ~(non_finite<T>(pair) * 0xffff);
}

/// Replaces what is not finite in a tile [kKeys][kStride] by 0. Returns, in all threads, whether
/// there was any. Call from all threads; they are synchronised.
template <class Tiling, class T>
__device__ bool keep_finite_values(T* tile) {
  bool found = false;
  for (int i = threadIdx.x; i < Tiling::kKeys * Tiling::kVectors; i += kAttentionThreads) {
    const int key = i / Tiling::kVectors;
    T* values = tile + key * Tiling::kStride + i % Tiling::kVectors * kVectorElements;
    const uint4 v = load_16(values);
    if ((non_finite<T>(v.x) | non_finite<T>(v.y) | non_finite<T>(v.z) | non_finite<T>(v.w)) == 0) {
      continue;
    }
    found = true;
    store_16(values, make_uint4(keep_finite<T>(v.x), keep_finite<T>(v.y), keep_finite<T>(v.z),
                                keep_finite<T>(v.w)));
  }
  return __syncthreads_or(found) != 0;
}

/// Adds the infinities and NaNs among the values of partly visible tiles to the partial results of
/// the rows that see them. Call from all threads, after a barrier; merge() has one before it reads.
template <class T, class Tiling>
__device__ void add_non_finite_values(const BranchAttentionParams& p, const RowTile& rows,
                                      const RowVisibility& visibility, const KeySplit& split,
                                      AttentionShared<T, Tiling>& shared) {
  const int head_dim = static_cast<int>(p.head_dim);
  const T* values = static_cast<const T*>(p.v_cache) + rows.kv_head * p.v_strides.head;
  for (int begin = split.begin; begin < split.end; begin += Tiling::kKeys) {
    if (visibility.all_visible(begin, begin + Tiling::kKeys)) continue;
    for (int i = threadIdx.x; i < rows.count * head_dim; i += kAttentionThreads) {
      const int r = i / head_dim;
      const int d = i % head_dim;
      const std::uint64_t visible = visibility.visible(r, begin);
      for (int key = 0; key < Tiling::kKeys; ++key) {
        if ((visible >> key & 1) == 0) continue;
        const auto value =
            static_cast<float>(values[p.block_table.offset(rows.b, begin + key, p.v_strides) + d]);
        if (!(fabsf(value) < INFINITY)) shared.results.out[key / Tiling::kWarpKeys][r][d] += value;
      }
    }
  }
}

}  // namespace specbranch
