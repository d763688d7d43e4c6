#pragma once

#include <cmath>
#include <cstdint>

#include "attention/cuda/row_tile.cuh"
#include "attention/split_plan.h"
#include "common/cuda/last_block.cuh"
#include "common/cuda/prims.cuh"

// Partial results of attention: for each row the output over some keys, normalised, and the
// base-2 logarithm of the sum of exponentials of its scores. A row without keys has 0 and -inf.
namespace specbranch {

inline constexpr float kLn2 = 0.693147180559945309f;
inline constexpr float kLog2e = 1.442695040888963407f;

/// What exponents are relative to: the largest, or 0 if all are -inf (their difference is NaN).
__device__ inline float finite_base(float largest) { return largest == -INFINITY ? 0.0f : largest; }

/// Partial results at equal distances, in shared or global memory.
struct Partials {
  float* out;  // rows of output, row_stride apart
  float* lse;  // [rows]
  std::int64_t out_stride;
  std::int64_t lse_stride;
  int row_stride;

  __device__ Partials from(int first, int step) const {
    return {out + first * out_stride, lse + first * lse_stride, step * out_stride,
            step * lse_stride, row_stride};
  }

  /// Elements d to d + 3 of row r of the i-th.
  __device__ float4 vector(int i, int r, int d) const {
    const uint4 bits = load_16(out + i * out_stride + r * row_stride + d);
    return reinterpret_cast<const float4&>(bits);
  }

  // A place for merged results: the first of these.
  __device__ void store_lse(int r, float value) const { lse[r] = value; }
  __device__ void store(int r, int d, float4 value) const {
    store_16(out + r * row_stride + d, reinterpret_cast<const uint4&>(value));
  }
};

/// The rows' place in the results of the op.
template <class T>
struct OutputRows {
  const BranchAttentionParams& p;
  const RowTile& rows;

  __device__ void store_lse(int r, float value) const {
    p.lse[rows.offset(r, p.lse_strides)] = value * kLn2;
  }

  __device__ T* at(int r, int d) const {
    return static_cast<T*>(p.out) + rows.offset(r, p.out_strides) + d;
  }
};

/// Elements one by one: rows of any alignment.
template <class T>
struct ElementOutput : OutputRows<T> {
  __device__ void store(int r, int d, float4 value) const {
    T* out = this->at(r, d);
    out[0] = static_cast<T>(value.x);
    out[1] = static_cast<T>(value.y);
    out[2] = static_cast<T>(value.z);
    out[3] = static_cast<T>(value.w);
  }
};

/// Vectors of four 16-bit elements.
template <class T>
struct VectorOutput : OutputRows<T> {
  __device__ void store(int r, int d, float4 value) const {
    const std::uint64_t low = pack_pair<T>(value.x, value.y);
    const std::uint64_t high = pack_pair<T>(value.z, value.w);
    *reinterpret_cast<std::uint64_t*>(this->at(r, d)) = low | high << 32;
  }
};

/// Shared memory of a merge.
struct MergeScratch {
  float weights[kMaxFanIn][kMaxTileRows];
};

/// Weights of a row's partial results, which sum to 1; returns the lse of all.
__device__ inline float merge_weights(const Partials& partials, int n, int r,
                                      MergeScratch& scratch) {
  float parts[kMaxFanIn];
#pragma unroll
  for (int i = 0; i < kMaxFanIn; ++i) {
    parts[i] = i < n ? partials.lse[i * partials.lse_stride + r] : -INFINITY;
  }
  float largest = -INFINITY;
#pragma unroll
  for (int i = 0; i < kMaxFanIn; ++i) largest = fmaxf(largest, parts[i]);
  const float base = finite_base(largest);
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kMaxFanIn; ++i) sum += exp2f(parts[i] - base);
  const float lse = base + log2f(sum);
#pragma unroll
  for (int i = 0; i < kMaxFanIn; ++i) {
    scratch.weights[i][r] = parts[i] == -INFINITY ? 0.0f : exp2f(parts[i] - lse);
  }
  return lse;
}

/// The weighted sum of elements d to d + 3 of row r, of partial results that are already there.
__device__ inline float4 weighted_sum(const float4 (&parts)[kMaxFanIn], int r,
                                      const MergeScratch& scratch) {
  float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
  for (int i = 0; i < kMaxFanIn; ++i) {
    const float weight = scratch.weights[i][r];
    sum.x += weight * parts[i].x;
    sum.y += weight * parts[i].y;
    sum.z += weight * parts[i].z;
    sum.w += weight * parts[i].w;
  }
  return sum;
}

/// Merges the first n partial results, in this order, into `to`, which may be the first of them.
/// Call from all threads. A thread takes four columns of either half of a row, and has all their
/// loads under way at once: nothing else hides their latency.
template <class Destination>
__device__ void merge(const Partials& partials, int n, int num_rows, int head_dim,
                      MergeScratch& scratch, const Destination& to) {
  for (int r = threadIdx.x; r < num_rows; r += blockDim.x) {
    to.store_lse(r, merge_weights(partials, n, r, scratch));
  }
  __syncthreads();
  const int half = head_dim / 2;
  const int vectors = half / 4;
  for (int item = threadIdx.x; item < num_rows * vectors; item += blockDim.x) {
    const int r = item / vectors;
    const int d = item % vectors * 4;
    float4 left[kMaxFanIn] = {};
    float4 right[kMaxFanIn] = {};
#pragma unroll
    for (int i = 0; i < kMaxFanIn; ++i) {
      if (i >= n) continue;
      left[i] = partials.vector(i, r, d);
      right[i] = partials.vector(i, r, half + d);
    }
    to.store(r, d, weighted_sum(left, r, scratch));
    to.store(r, half + d, weighted_sum(right, r, scratch));
  }
}

/// The partial results of a row tile's splits in the workspace, outputs [splits, Hkv, rows, D] and
/// then lse [splits, Hkv, rows], and the tickets of the blocks that leave them there.
class SplitResults {
 public:
  __device__ SplitResults(const BranchAttentionLaunch& launch, const RowTile& rows)
      : plan_(launch.plan), head_dim_(static_cast<int>(launch.params.head_dim)) {
    const std::int64_t split_rows = launch.params.num_kv_heads * plan_.num_rows;
    const std::int64_t row = std::int64_t{rows.kv_head} * plan_.num_rows + rows.begin;
    float* out = launch.params.workspace;
    float* lse = out + plan_.max_splits * split_rows * head_dim_;
    partials_ = {out + row * head_dim_, lse + row, split_rows * head_dim_, split_rows, head_dim_};
    const std::int64_t tile = std::int64_t{rows.kv_head} * plan_.max_row_tiles + blockIdx.x;
    tickets_ = launch.tickets + tile * plan_.tickets_per_tile();
  }

  __device__ Partials of(int split) const { return partials_.from(split, 1); }

  /// Merges the results of `count` splits, of which this block's is `split`, into `to`. Groups of
  /// fan_in are merged first, each by the block that comes last in it, then the groups by the
  /// block that comes last of all; the order of the sums does not depend on which blocks these are.
  template <class Destination>
  __device__ void merge_splits(int split, int count, int num_rows, MergeScratch& scratch,
                               const Destination& to) const {
    const int group = split / plan_.fan_in;
    const int groups = ceil_divide(count, plan_.fan_in);
    const int first = group * plan_.fan_in;
    const int members = min(plan_.fan_in, count - first);
    if (!is_last_block(tickets_ + 1 + group, members)) return;
    const Partials own = partials_.from(first, 1);
    if (groups == 1) {
      merge(own, members, num_rows, head_dim_, scratch, to);
      return;
    }
    merge(own, members, num_rows, head_dim_, scratch, own);
    if (!is_last_block(tickets_, groups)) return;
    merge(partials_.from(0, plan_.fan_in), groups, num_rows, head_dim_, scratch, to);
  }

 private:
  const SplitPlan& plan_;
  int head_dim_;
  unsigned* tickets_;
  Partials partials_;
};

/// The last step of a block: its n partial results in shared memory become the op's results, or
/// part of them.
template <class Output>
__device__ void finish(const BranchAttentionLaunch& launch, const RowTile& rows, int split_count,
                       const Partials& partials, int n, MergeScratch& scratch,
                       const Output& output) {
  const int head_dim = static_cast<int>(launch.params.head_dim);
  if (split_count == 1) {
    merge(partials, n, rows.count, head_dim, scratch, output);
    return;
  }
  const int split = blockIdx.y;
  const SplitResults results(launch, rows);
  merge(partials, n, rows.count, head_dim, scratch, results.of(split));
  results.merge_splits(split, split_count, rows.count, scratch, output);
}

}  // namespace specbranch
