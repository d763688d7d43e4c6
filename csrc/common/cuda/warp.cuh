#pragma once

#include "common/cuda/prims.cuh"

// Every reduction adds in an order that depends on nothing but the block size, so results are the
// same in every run.
namespace specbranch {

inline constexpr int kWarpThreads = 32;

__device__ inline int warp_index() { return static_cast<int>(threadIdx.x) / kWarpThreads; }
__device__ inline int lane_index() { return static_cast<int>(threadIdx.x) % kWarpThreads; }

struct Add {
  template <class Value>
  __device__ Value operator()(Value a, Value b) const {
    return a + b;
  }
};

template <class Value, class Join>
__device__ Value warp_reduce(Value value, const Join& join) {
#pragma unroll
  for (int distance = kWarpThreads / 2; distance > 0; distance /= 2) {
    value = join(value, __shfl_xor_sync(kFullWarp, value, distance));
  }
  return value;
}

}  // namespace specbranch
