#pragma once

#include <cmath>
#include <cstdint>

#include "attention/cuda/mma_tiling.cuh"
#include "attention/cuda/softmax_state.cuh"
#include "common/cuda/prims.cuh"

namespace specbranch {

/// Which of a warp's keys the two rows of a thread see, a bit each.
struct VisibleKeys {
  std::uint64_t row[2];

  __device__ bool operator()(int i, int key) const { return row[i] >> key & 1; }
};

/// One warp's part of attention: 16 query rows against its keys of each tile. A thread holds, of
/// each 16x8 accumulator, columns 2 * (lane % 4) + {0, 1} of rows lane / 4 and lane / 4 + 8.
template <class T, class Tiling>
class WarpAttention {
 public:
  static constexpr int kScoreTiles = Tiling::kWarpKeys / 8;
  static constexpr int kOutTiles = Tiling::kHeadDim / 8;
  static constexpr int kKeySteps = Tiling::kWarpKeys / 16;

  __device__ explicit WarpAttention(const BranchAttentionParams& p)
      : score_scale_(p), lane_(threadIdx.x % 32), warp_(threadIdx.x / 32) {}

  /// The tile's row that is the thread's i-th.
  __device__ int row(int i) const { return first_row() + lane_ / 4 + 8 * i; }

  /// The tile's first key that is the warp's.
  __device__ int first_key() const { return warp_ % Tiling::kWarpsN * Tiling::kWarpKeys; }

  /// Scores of a tile of keys [kKeys][kStride] in shared memory.
  __device__ void score(const T* queries, const T* keys) {
    const T* query = queries + (first_row() + lane_ % 16) * Tiling::kStride + lane_ / 16 * 8;
    const T* key =
        keys + (first_key() + lane_ / 16 * 8 + lane_ % 8) * Tiling::kStride + lane_ / 8 % 2 * 8;
#pragma unroll
    for (int i = 0; i < kScoreTiles; ++i) clear(scores_[i]);
#pragma unroll
    for (int d = 0; d < Tiling::kHeadDim; d += 16) {
      std::uint32_t a[4];
      ldmatrix_x4(a, query + d);
#pragma unroll
      for (int i = 0; i < kKeySteps; ++i) {
        std::uint32_t b[4];
        ldmatrix_x4(b, key + 16 * i * Tiling::kStride + d);
        mma_pair(scores_[2 * i], scores_[2 * i + 1], a, b);
      }
    }
    score_scale_.apply(scores_);
  }

  /// Takes invisible keys out, whatever their scores are.
  __device__ void mask(const VisibleKeys& visible) {
#pragma unroll
    for (int i = 0; i < kScoreTiles; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (!visible(j / 2, 8 * i + column(j))) scores_[i][j] = -INFINITY;
      }
    }
  }

  /// Scores become weights, relative to the largest score so far.
  __device__ void weigh() {
    const float2 factors = softmax_.add(scores_);
#pragma unroll
    for (int i = 0; i < kOutTiles; ++i) {
      out_[i][0] *= factors.x;
      out_[i][1] *= factors.x;
      out_[i][2] *= factors.y;
      out_[i][3] *= factors.y;
    }
#pragma unroll
    for (int i = 0; i < kKeySteps; ++i) {
      weights_[i][0] = pack_pair<T>(scores_[2 * i][0], scores_[2 * i][1]);
      weights_[i][1] = pack_pair<T>(scores_[2 * i][2], scores_[2 * i][3]);
      weights_[i][2] = pack_pair<T>(scores_[2 * i + 1][0], scores_[2 * i + 1][1]);
      weights_[i][3] = pack_pair<T>(scores_[2 * i + 1][2], scores_[2 * i + 1][3]);
    }
  }

  /// Adds the weighted values of a tile [kKeys][kStride] in shared memory.
  __device__ void add_values(const T* values) {
    const T* value = values + (first_key() + lane_ % 16) * Tiling::kStride + lane_ / 16 * 8;
#pragma unroll
    for (int i = 0; i < kKeySteps; ++i) {
#pragma unroll
      for (int j = 0; j < kOutTiles; j += 2) {
        std::uint32_t b[4];
        ldmatrix_x4_trans(b, value + 16 * i * Tiling::kStride + 8 * j);
        mma_pair(out_[j], out_[j + 1], weights_[i], b);
      }
    }
  }

  /// Writes the warp's partial result.
  __device__ void store(AttentionShared<T, Tiling>& shared) const {
    const int n = warp_ % Tiling::kWarpsN;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float sum = softmax_.sum(i);
      const float scale = sum == 0.0f ? 0.0f : 1.0f / sum;
      float* out = &shared.results.out[n][row(i)][column(0)];
#pragma unroll
      for (int j = 0; j < kOutTiles; ++j) {
        *reinterpret_cast<float2*>(out + 8 * j) =
            make_float2(out_[j][2 * i] * scale, out_[j][2 * i + 1] * scale);
      }
      if (lane_ % 4 == 0) shared.results.lse[n][row(i)] = softmax_.largest(i) + log2f(sum);
    }
  }

 private:
  __device__ int first_row() const { return warp_ / Tiling::kWarpsN * 16; }

  /// Column, in its 16x8 tile, of an accumulator's j-th element.
  __device__ int column(int j) const { return 2 * (lane_ % 4) + j % 2; }

  __device__ static void clear(float (&tile)[4]) {
#pragma unroll
    for (int j = 0; j < 4; ++j) tile[j] = 0.0f;
  }

  __device__ static void mma_pair(float (&left)[4], float (&right)[4], const std::uint32_t (&a)[4],
                                  const std::uint32_t (&b)[4]) {
    mma_m16n8k16<T>(left, a, {b[0], b[1]});
    mma_m16n8k16<T>(right, a, {b[2], b[3]});
  }

  ScoreScale score_scale_;
  SoftmaxState softmax_;
  float scores_[kScoreTiles][4];
  std::uint32_t weights_[kKeySteps][4];  // the first operand of mma
  float out_[kOutTiles][4] = {};
  int lane_;
  int warp_;
};

}  // namespace specbranch
