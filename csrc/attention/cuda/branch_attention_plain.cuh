#pragma once

#include <cmath>
#include <cstdint>

#include "attention/cuda/partials.cuh"
#include "attention/cuda/row_visibility.cuh"
#include "attention/cuda/softmax_state.cuh"
#include "common/cuda/prims.cuh"

// branch_attention without tensor cores: for fp32, and for rows that are not made of whole 16-byte
// vectors. A warp takes four of the block's 16 rows; a lane takes one of the 32 keys of a tile when
// scores are computed, and every 32nd column when values are added.
namespace specbranch {

inline constexpr int kPlainWarpRows = kPlainTile.rows / kWarps;
inline constexpr int kLaneColumns = kMaxHeadDim / 32;

struct PlainShared {
  float rows[kPlainTile.rows][kMaxHeadDim];      // the queries, in the end the outputs
  float keys[kPlainTile.keys][kMaxHeadDim + 1];  // odd: lanes read a column in different banks
  float values[kPlainTile.keys][kMaxHeadDim];
  float lse[kPlainTile.rows];
  int window_starts[kPlainTile.rows];
  MergeScratch merge;

  __device__ Partials partials() { return {&rows[0][0], lse, 0, 0, kMaxHeadDim}; }
};

template <class T>
__device__ void load_queries(const BranchAttentionParams& p, const RowTile& rows,
                             PlainShared& shared) {
  const int head_dim = static_cast<int>(p.head_dim);
  for (int i = threadIdx.x; i < rows.count * head_dim; i += blockDim.x) {
    const T* row = static_cast<const T*>(p.q) + rows.offset(i / head_dim, p.q_strides);
    shared.rows[i / head_dim][i % head_dim] = static_cast<float>(row[i % head_dim]);
  }
}

/// Keys and values of the tile's positions from `begin` on; others in place of those that no row
/// sees.
template <class T>
__device__ void load_tile(const BranchAttentionParams& p, const RowTile& rows,
                          const KeySplit& split, int begin, PlainShared& shared) {
  const int head_dim = static_cast<int>(p.head_dim);
  const int page_size = static_cast<int>(p.block_table.page_size);
  const std::int32_t* pages = p.block_table.pages + rows.b * p.block_table.row_stride;
  const T* keys = static_cast<const T*>(p.k_cache) + rows.kv_head * p.k_strides.head;
  const T* values = static_cast<const T*>(p.v_cache) + rows.kv_head * p.v_strides.head;
  const int end = min(begin + kPlainTile.keys, split.end);
  for (int i = threadIdx.x; i < (end - begin) * head_dim; i += blockDim.x) {
    const int key = i / head_dim;
    const int d = i % head_dim;
    const int position = max(begin + key, split.first_key);
    const std::int64_t page = pages[position / page_size];
    const int slot = position % page_size;
    const T* k = keys + page * p.k_strides.page + slot * p.k_strides.slot;
    const T* v = values + page * p.v_strides.page + slot * p.v_strides.slot;
    shared.keys[key][d] = static_cast<float>(k[d]);
    shared.values[key][d] = static_cast<float>(v[d]);
  }
}

/// One query row of a warp.
class PlainRow {
 public:
  /// Adds a tile of which the row sees the keys of these bits.
  __device__ void add(const float* query, std::uint32_t visible, int head_dim,
                      const ScoreScale& scale, const PlainShared& shared) {
    const int lane = threadIdx.x % 32;
    float score = -INFINITY;
    if (visible >> lane & 1) {
      score = 0.0f;
      for (int d = 0; d < head_dim; ++d) score += query[d] * shared.keys[lane][d];
      score = scale(score);
    }
    const float weight = weigh(score);
    for (int key = 0; key < kPlainTile.keys; ++key) {
      const float key_weight = __shfl_sync(kFullWarp, weight, key);
      if (visible >> key & 1) add_value(key_weight, shared.values[key], head_dim);
    }
  }

  /// Writes the normalised output row; returns its base-2 lse.
  __device__ float store(float* out, int head_dim) const {
    const float sum = warp_sum(sum_);
    const float scale = sum == 0.0f ? 0.0f : 1.0f / sum;
#pragma unroll
    for (int i = 0; i < kLaneColumns; ++i) {
      const int d = 32 * i + threadIdx.x % 32;
      if (d < head_dim) out[d] = out_[i] * scale;
    }
    return largest_ + log2f(sum);
  }

 private:
  __device__ static float warp_max(float value) {
    for (int lanes = 16; lanes > 0; lanes /= 2) {
      value = fmaxf(value, __shfl_xor_sync(kFullWarp, value, lanes));
    }
    return value;
  }

  __device__ static float warp_sum(float value) {
    for (int lanes = 16; lanes > 0; lanes /= 2) {
      value += __shfl_xor_sync(kFullWarp, value, lanes);
    }
    return value;
  }

  /// The weight of this lane's key, relative to the largest exponent so far.
  __device__ float weigh(float exponent) {
    const float largest = fmaxf(largest_, warp_max(exponent));
    const float base = finite_base(largest);
    const float factor = exp2f(largest_ - base);
    const float weight = exp2f(exponent - base);
    largest_ = largest;
    sum_ = sum_ * factor + weight;
#pragma unroll
    for (int i = 0; i < kLaneColumns; ++i) out_[i] *= factor;
    return weight;
  }

  __device__ void add_value(float weight, const float* value, int head_dim) {
#pragma unroll
    for (int i = 0; i < kLaneColumns; ++i) {
      const int d = 32 * i + threadIdx.x % 32;
      if (d < head_dim) out_[i] += weight * value[d];
    }
  }

  float largest_ = -INFINITY;
  float sum_ = 0.0f;  // over this lane's keys
  float out_[kLaneColumns] = {};
};

template <class T>
__device__ void attend_plainly(const BranchAttentionLaunch& launch, const RowTile& rows,
                               const RowVisibility& visibility, const KeySplit& split,
                               PlainShared& shared) {
  const BranchAttentionParams& p = launch.params;
  const int head_dim = static_cast<int>(p.head_dim);
  const ScoreScale scale(p);
  const int first_row = threadIdx.x / 32 * kPlainWarpRows;
  PlainRow state[kPlainWarpRows];
  load_queries<T>(p, rows, shared);
  for (int begin = split.begin; begin < split.end; begin += kPlainTile.keys) {
    __syncthreads();  // all are through with the last tile
    load_tile<T>(p, rows, split, begin, shared);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kPlainWarpRows; ++i) {
      const int r = first_row + i;
      if (r >= rows.count) continue;
      const auto visible = static_cast<std::uint32_t>(visibility.visible(r, begin));
      state[i].add(shared.rows[r], visible, head_dim, scale, shared);
    }
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kPlainWarpRows; ++i) {
    const float lse = state[i].store(shared.rows[first_row + i], head_dim);
    if (threadIdx.x % 32 == 0) shared.lse[first_row + i] = lse;
  }
  __syncthreads();
}

/// Grid [row tiles, splits, Hkv].
template <class T>
__global__ void __launch_bounds__(kAttentionThreads, kBlocksPerSm)
    branch_attention_plain_kernel(const __grid_constant__ BranchAttentionLaunch launch) {
  SPECBRANCH_DYNAMIC_SHARED(dynamic);
  auto& shared = *reinterpret_cast<PlainShared*>(dynamic);
  const RowTile rows(launch);
  if (rows.count <= 0) return;
  const RowVisibility visibility(launch.params, rows, shared.window_starts);
  const KeySplit split(visibility, launch.plan);
  if (static_cast<int>(blockIdx.y) >= split.count) return;
  attend_plainly<T>(launch, rows, visibility, split, shared);
  finish(launch, rows, split.count, shared.partials(), 1, shared.merge,
         ElementOutput<T>{launch.params, rows});
}

}  // namespace specbranch
