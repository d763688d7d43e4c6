#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "attention/cpu/plan.h"
#include "common/cpu/vec.h"

// Register-blocked products of one tile of keys with a panel of query rows. Loops over the rows and
// vectors of a block must be unrolled early, or their accumulators live on the stack.
namespace specbranch::SPECBRANCH_CPU_NS {

/// Query rows of a panel, and vectors side by side in its accumulators: rows * vectors
/// accumulators, the vectors that they are multiplied with and a broadcast fill the register file.
inline constexpr int kPanelRows = 6;
#if defined(CPU_CAPABILITY_AVX2)
inline constexpr int kPanelVecs = 2;
#else
inline constexpr int kPanelVecs = 4;
#endif

/// Rows that share one pass over a tile, and elements of the head dimension that they pass at once.
inline constexpr std::int64_t kBlockRows = 16 * kPanelRows;
inline constexpr std::int64_t kBlockDim = 64;

/// Calls f.template operator()<count>() for 1 <= count <= max_count: a loop count that the compiler
/// unrolls, so that accumulators live in registers.
template <int max_count, class F>
void with_static_count(std::int64_t count, const F& f) {
  if constexpr (max_count > 1) {
    if (count < max_count) return with_static_count<max_count - 1>(count, f);
  }
  f.template operator()<max_count>();
}

/// Calls f.template operator()<num_vecs>(start) over `count` floats, whole vectors, in blocks of at
/// most kPanelVecs vectors.
template <class F>
void for_each_vec_block(std::int64_t count, const F& f) {
  constexpr std::int64_t kBlock = kPanelVecs * kLanes;
  for (std::int64_t start = 0; start < count; start += kBlock) {
    with_static_count<kPanelVecs>(std::min(kBlock, count - start) / kLanes,
                                  [&]<int num_vecs>() { f.template operator()<num_vecs>(start); });
  }
}

/// Where the keys and values of a tile lie under the first KV head. Entries beyond the tile repeat
/// its first row, so that whole vectors of rows can be read.
template <class T>
struct TileRows {
  const T* keys[kTileKeys];
  const T* values[kTileKeys];
};

/// Calls f.template operator()<num_rows>(row) for panels that cover `count` rows.
template <class F>
void for_each_panel(std::int64_t count, const F& f) {
  const std::int64_t num_panels = ceil_div(count, kPanelRows);
  for (std::int64_t i = 0; i < num_panels; ++i) {
    const std::int64_t row = i * count / num_panels;
    const std::int64_t end = (i + 1) * count / num_panels;
    with_static_count<kPanelRows>(end - row,
                                  [&]<int num_rows>() { f.template operator()<num_rows>(row); });
  }
}

/// `width` elements from `offset` on of the first `count` keys of a tile, rounded up to whole
/// vectors, as columns: transposed[d * kTileKeys + key].
template <class T>
void transpose_keys(const T* const* keys, std::int64_t count, std::int64_t offset,
                    std::int64_t width, float* transposed) {
  for (std::int64_t key = 0; key < count; key += kLanes) {
    for (std::int64_t d = 0; d < width; d += kLanes) {
      const std::int64_t lanes = std::min<std::int64_t>(kLanes, width - d);
      VecSquare block;
      for (int i = 0; i < kLanes; ++i) block[i] = load(keys[key + i] + offset + d, lanes);
      transpose(block);
      float* column = transposed + d * kTileKeys + key;
      for (int i = 0; i < lanes; ++i) store(column + i * kTileKeys, block[i]);
    }
  }
}

/// scores[row * kTileKeys + key] += query row . key, for `num_rows` rows and `num_vecs` vectors of
/// keys.
template <int num_rows, int num_vecs, class Fetch>
void score_block(const float* queries, std::int64_t query_stride, const float* transposed,
                 std::int64_t width, float* scores, Fetch& fetch) {
  Vec sums[num_rows][num_vecs];
#pragma GCC unroll 8
  for (int r = 0; r < num_rows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < num_vecs; ++v) sums[r][v] = load(scores + r * kTileKeys + v * kLanes);
  }
  Fetch ahead = fetch;  // in registers
  for (std::int64_t d = 0; d < width; ++d) {
    ahead.step();
    Vec keys[num_vecs];
#pragma GCC unroll 8
    for (int v = 0; v < num_vecs; ++v) keys[v] = load(transposed + d * kTileKeys + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < num_rows; ++r) {
      const Vec query(queries[r * query_stride + d]);
#pragma GCC unroll 8
      for (int v = 0; v < num_vecs; ++v) sums[r][v] = at::vec::fmadd(query, keys[v], sums[r][v]);
    }
  }
  fetch = ahead;
#pragma GCC unroll 8
  for (int r = 0; r < num_rows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < num_vecs; ++v) store(scores + r * kTileKeys + v * kLanes, sums[r][v]);
  }
}

/// Scores of a panel with `num_keys` keys of a tile, whole vectors.
template <int num_rows, class Fetch>
void score_panel(const float* queries, std::int64_t query_stride, const float* transposed,
                 std::int64_t num_keys, std::int64_t width, float* scores, Fetch& fetch) {
  for_each_vec_block(num_keys, [&]<int num_vecs>(std::int64_t key) {
    score_block<num_rows, num_vecs>(queries, query_stride, transposed + key, width, scores + key,
                                    fetch);
  });
}

/// out[row] += sum over keys of weights[row][key] * values[key], for `num_vecs` vectors of the head
/// dimension.
template <int num_rows, int num_vecs, class Fetch>
void accumulate_block(const float* weights, const float* const* values, std::int64_t offset,
                      std::int64_t num_keys, float* out, std::int64_t out_stride, Fetch& fetch) {
  Vec sums[num_rows][num_vecs];
#pragma GCC unroll 8
  for (int r = 0; r < num_rows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < num_vecs; ++v) sums[r][v] = load(out + r * out_stride + v * kLanes);
  }
  Fetch ahead = fetch;  // in registers
  for (std::int64_t key = 0; key < num_keys; ++key) {
    ahead.step();
    const float* row = values[key] + offset;
    Vec value[num_vecs];
#pragma GCC unroll 8
    for (int v = 0; v < num_vecs; ++v) value[v] = load(row + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < num_rows; ++r) {
      const Vec weight(weights[r * kTileKeys + key]);
#pragma GCC unroll 8
      for (int v = 0; v < num_vecs; ++v) sums[r][v] = at::vec::fmadd(weight, value[v], sums[r][v]);
    }
  }
  fetch = ahead;
#pragma GCC unroll 8
  for (int r = 0; r < num_rows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < num_vecs; ++v) store(out + r * out_stride + v * kLanes, sums[r][v]);
  }
}

/// `width` floats of the head dimension, whole vectors, of a panel.
template <int num_rows, class Fetch>
void accumulate_panel(const float* weights, const float* const* values, std::int64_t num_keys,
                      std::int64_t width, float* out, std::int64_t out_stride, Fetch& fetch) {
  for_each_vec_block(width, [&]<int num_vecs>(std::int64_t d) {
    accumulate_block<num_rows, num_vecs>(weights, values, d, num_keys, out + d, out_stride, fetch);
  });
}

/// One row over the keys whose bit is set. The others are not multiplied by a weight of 0: their
/// values may be NaN.
template <int num_vecs>
void accumulate_row_block(const float* weights, const float* const* values, std::int64_t offset,
                          std::uint64_t visible, float* out) {
  Vec sums[num_vecs];
#pragma GCC unroll 8
  for (int v = 0; v < num_vecs; ++v) sums[v] = load(out + v * kLanes);
  for (std::uint64_t keys = visible; keys != 0; keys &= keys - 1) {
    const int key = std::countr_zero(keys);
    const float* row = values[key] + offset;
    const Vec weight(weights[key]);
#pragma GCC unroll 8
    for (int v = 0; v < num_vecs; ++v) {
      sums[v] = at::vec::fmadd(weight, load(row + v * kLanes), sums[v]);
    }
  }
#pragma GCC unroll 8
  for (int v = 0; v < num_vecs; ++v) store(out + v * kLanes, sums[v]);
}

inline void accumulate_row(const float* weights, const float* const* values, std::uint64_t visible,
                           std::int64_t dim, float* out) {
  for_each_vec_block(dim, [&]<int num_vecs>(std::int64_t d) {
    accumulate_row_block<num_vecs>(weights, values, d, visible, out + d);
  });
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
