#pragma once

#include <cstdint>

#include "common/cuda/warp.cuh"
#include "sampling/cuda/tile_stats.h"

// Blocks of the sampling kernels, and their reductions.
namespace specbranch {

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
