#pragma once

#include <cstdint>

#include "common/cuda/elements.cuh"
#include "common/cuda/warp.cuh"
#include "forward/params.h"

namespace specbranch {

inline constexpr int kMostNormThreads = 1024;

/// The sum over the block, in all of its threads.
__device__ inline float block_sum(float value) {
  SPECBRANCH_SHARED(of_warp, float[kMostNormThreads / kWarpThreads]);
  value = warp_reduce(value, Add{});
  if (lane_index() == 0) of_warp[warp_index()] = value;
  __syncthreads();
  float sum = 0.0f;
  for (int warp = 0; warp < static_cast<int>(blockDim.x) / kWarpThreads; ++warp) {
    sum += of_warp[warp];
  }
  return sum;
}

/// A block has one row. A thread finds in L1 what it wrote to the residual, and nobody else reads
/// it. Grid [num_rows].
template <class T, int kCount>
__global__ void add_rms_norm_kernel(const __grid_constant__ AddRmsNormParams p) {
  const std::int64_t row = blockIdx.x;
  const T* x = static_cast<const T*>(p.x) + row * p.x_stride;
  T* residual = static_cast<T*>(p.residual) + row * p.residual_stride;
  T* out = static_cast<T*>(p.out) + row * p.out_stride;
  const T* weight = static_cast<const T*>(p.norm.weight);
  const int first = static_cast<int>(threadIdx.x) * kCount;
  const int step = static_cast<int>(blockDim.x) * kCount;

  float squares = 0.0f;
  for (std::int64_t i = first; i < p.width; i += step) {
    float sum[kCount];
    load_floats(residual + i, sum);
    if (p.x != nullptr) {
      float added[kCount];
      load_floats(x + i, added);
#pragma unroll
      for (int j = 0; j < kCount; ++j) {
        sum[j] = static_cast<float>(static_cast<T>(sum[j] + added[j]));  // as it is stored
      }
      store_floats(residual + i, sum);
    }
#pragma unroll
    for (int j = 0; j < kCount; ++j) squares += sum[j] * sum[j];
  }
  const float mean = block_sum(squares) / static_cast<float>(p.width);
  const float factor = 1.0f / sqrtf(mean + p.norm.eps);
  for (std::int64_t i = first; i < p.width; i += step) {
    float value[kCount], scale[kCount];
    load_floats(residual + i, value);
    load_floats(weight + i, scale);
#pragma unroll
    for (int j = 0; j < kCount; ++j) value[j] *= factor * (scale[j] + p.norm.offset);
    store_floats(out + i, value);
  }
}

}  // namespace specbranch
