#pragma once

#include <cstdint>

#include "common/cuda/prims.cuh"
#include "sampling/cuda/tile_stats.h"

// Blocks and warps of the sampling kernels, and their reductions. Every reduction adds in an order
// that depends on nothing but the block size, so results are the same in every run.
namespace specbranch {

__device__ inline int warp_index() { return static_cast<int>(threadIdx.x) / kWarpThreads; }
__device__ inline int lane_index() { return static_cast<int>(threadIdx.x) % kWarpThreads; }

struct Add {
  template <class Value>
  __device__ Value operator()(Value a, Value b) const {
    return a + b;
  }
};

struct Largest {
  template <class Value>
  __device__ Value operator()(Value a, Value b) const {
    return a > b ? a : b;
  }
};

struct Smallest {
  template <class Value>
  __device__ Value operator()(Value a, Value b) const {
    return a < b ? a : b;
  }
};

/// The largest; NaN if either is.
struct LargestOrNan {
  __device__ float operator()(float a, float b) const { return a > b || a != a ? a : b; }
};

template <class Value, class Join>
__device__ Value warp_reduce(Value value, const Join& join) {
#pragma unroll
  for (int distance = kWarpThreads / 2; distance > 0; distance /= 2) {
    value = join(value, __shfl_xor_sync(kFullWarp, value, distance));
  }
  return value;
}

/// Joins a value of each thread of the block; all threads get the result.
template <class Value, class Join>
__device__ Value block_reduce(Value value, const Join& join) {
  SPECBRANCH_SHARED(of_warp, Value[kRowWarps]);
  value = warp_reduce(value, join);
  __syncthreads();  // the results of an earlier reduction have been read
  if (lane_index() == 0) of_warp[warp_index()] = value;
  __syncthreads();
  Value joined = of_warp[0];
  for (int warp = 1; warp < kRowWarps; ++warp) joined = join(joined, of_warp[warp]);
  return joined;
}

}  // namespace specbranch
