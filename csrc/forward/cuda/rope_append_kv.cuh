#pragma once

#include <cstdint>

#include "attention/params.h"
#include "common/cuda/elements.cuh"
#include "common/cuda/warp.cuh"
#include "common/ragged_rows.h"
#include "forward/params.h"

namespace specbranch {

inline constexpr int kHeadWarps = 4;  // of a block, each with one head

/// What becomes of one head of a row.
template <class T>
struct HeadMove {
  const T* from;
  T* to;
  RmsNorm norm;
  std::int64_t rotated;  // dimensions
};

/// Heads are numbered queries first, then keys, then values.
template <class T>
__device__ HeadMove<T> move_of(const RopeAppendKvParams& p, std::int64_t row, std::int64_t head) {
  const AppendKvParams& a = p.append;
  if (head < p.num_qo_heads) {
    T* q = static_cast<T*>(p.q) + row * p.q_strides.row + head * p.q_strides.head;
    return {q, q, p.q_norm, p.rope.dim};
  }
  head -= p.num_qo_heads;
  const bool is_key = head < a.num_kv_heads;
  if (!is_key) head -= a.num_kv_heads;
  const void* data = is_key ? a.k : a.v;
  void* cache = is_key ? a.k_cache : a.v_cache;
  const RowStrides& strides = is_key ? a.k_strides : a.v_strides;
  const KvStrides& cache_strides = is_key ? a.k_cache_strides : a.v_cache_strides;
  const int b = request_of(a.row_indptr, static_cast<int>(a.batch_size), row);
  const std::int64_t position = a.start[b] + row - a.row_indptr[b];
  return {static_cast<const T*>(data) + row * strides.row + head * strides.head,
          static_cast<T*>(cache) + a.block_table.offset(b, position, cache_strides) +
              head * cache_strides.head,
          is_key ? p.k_norm : RmsNorm{}, is_key ? p.rope.dim : 0};
}

/// Rotates a head in shared memory by the angles of a position. A lane has both of a pair.
__device__ inline void rotate(float* head, std::int64_t dim, const float* cos, const float* sin) {
  const std::int64_t half = dim / 2;
  for (std::int64_t i = lane_index(); i < half; i += kWarpThreads) {
    const float low = head[i], high = head[i + half];
    head[i] = low * cos[i] - high * sin[i];
    head[i + half] = high * cos[i] + low * sin[i];
  }
}

/// A warp has one head: it reads all of it before it writes any. Grid [T, ceil(heads / warps)].
template <class T, int kCount>
__global__ void rope_append_kv_kernel(const __grid_constant__ RopeAppendKvParams p) {
  SPECBRANCH_SHARED(heads, float[kHeadWarps][kMaxHeadDim]);
  const AppendKvParams& a = p.append;
  const std::int64_t row = blockIdx.x;
  const std::int64_t head = std::int64_t{blockIdx.y} * kHeadWarps + warp_index();
  if (row >= a.row_indptr[a.batch_size]) return;
  if (head >= p.num_qo_heads + 2 * a.num_kv_heads) return;
  const HeadMove<T> move = move_of<T>(p, row, head);
  float* x = heads[warp_index()];
  const int first = lane_index() * kCount;
  constexpr int kStep = kWarpThreads * kCount;

  float squares = 0.0f;
  for (int i = first; i < a.head_dim; i += kStep) {
    float value[kCount];
    load_floats(move.from + i, value);
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      x[i + j] = value[j];
      squares += value[j] * value[j];
    }
  }
  if (move.norm.weight != nullptr) {
    const float mean = warp_reduce(squares, Add{}) / static_cast<float>(a.head_dim);
    const float factor = 1.0f / sqrtf(mean + move.norm.eps);
    for (int i = first; i < a.head_dim; i += kStep) {
      float scale[kCount];
      load_floats(static_cast<const T*>(move.norm.weight) + i, scale);
#pragma unroll
      for (int j = 0; j < kCount; ++j) x[i + j] *= factor * (scale[j] + move.norm.offset);
    }
  }
  __syncwarp();
  const std::int64_t angles = p.position_ids[row] * (p.rope.dim / 2);
  rotate(x, move.rotated, p.rope.cos + angles, p.rope.sin + angles);
  __syncwarp();
  for (int i = first; i < a.head_dim; i += kStep) {
    float value[kCount];
#pragma unroll
    for (int j = 0; j < kCount; ++j) value[j] = x[i + j];
    store_floats(move.to + i, value);
  }
}

}  // namespace specbranch
