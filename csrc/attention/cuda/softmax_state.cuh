#pragma once

#include <cmath>

#include "attention/cuda/partials.cuh"
#include "common/cuda/prims.cuh"

namespace specbranch {

/// Raw scores (query times key) to base-2 exponents.
struct ScoreScale {
  float scale;
  float softcap;

  __device__ explicit ScoreScale(const BranchAttentionParams& p)
      : scale(p.softcap == 0.0f ? p.scale * kLog2e : p.scale / p.softcap),
        softcap(p.softcap * kLog2e) {}

  __device__ float operator()(float score) const {
    return softcap == 0.0f ? score * scale : softcap * tanhf(score * scale);
  }

  /// All scores of a thread.
  template <int kTiles>
  __device__ void apply(float (&scores)[kTiles][4]) const {
#pragma unroll
    for (int i = 0; i < 4 * kTiles; ++i) scores[i / 4][i % 4] *= scale;
    if (softcap == 0.0f) return;
#pragma unroll
    for (int i = 0; i < 4 * kTiles; ++i) {
      scores[i / 4][i % 4] = softcap * tanhf(scores[i / 4][i % 4]);
    }
  }
};

/// The online softmax of the two rows (lane / 4 and lane / 4 + 8) of which a thread holds every
/// fourth pair of scores in mma accumulators: the largest exponent so far, the same in the four
/// threads of a row, and the thread's share of the sum of weights.
class SoftmaxState {
 public:
  /// Turns exponents into weights; returns what earlier sums are to be multiplied by.
  template <int kTiles>
  __device__ float2 add(float (&scores)[kTiles][4]) {
    const float upper = add_row(scores, 0);
    return make_float2(upper, add_row(scores, 1));
  }

  /// The sum of a row's weights over its threads.
  __device__ float sum(int row) const { return quad_sum(sum_[row]); }

  __device__ float largest(int row) const { return largest_[row]; }

 private:
  __device__ static float quad_max(float value) {
    value = fmaxf(value, __shfl_xor_sync(kFullWarp, value, 1));
    return fmaxf(value, __shfl_xor_sync(kFullWarp, value, 2));
  }

  __device__ static float quad_sum(float value) {
    value += __shfl_xor_sync(kFullWarp, value, 1);
    return value + __shfl_xor_sync(kFullWarp, value, 2);
  }

  template <int kTiles>
  __device__ float add_row(float (&scores)[kTiles][4], int row) {
    float largest = largest_[row];
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      largest = fmaxf(largest, fmaxf(scores[i][2 * row], scores[i][2 * row + 1]));
    }
    largest = quad_max(largest);
    const float base = finite_base(largest);
    const float factor = exp2_approx(largest_[row] - base);
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
#pragma unroll
      for (int j = 2 * row; j < 2 * row + 2; ++j) {
        scores[i][j] = exp2_approx(scores[i][j] - base);
        sum += scores[i][j];
      }
    }
    sum_[row] = sum_[row] * factor + sum;
    largest_[row] = largest;
    return factor;
  }

  float largest_[2] = {-INFINITY, -INFINITY};
  float sum_[2] = {0.0f, 0.0f};
};

}  // namespace specbranch
