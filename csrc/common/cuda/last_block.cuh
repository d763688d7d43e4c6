#pragma once

#include "common/cuda/prims.cuh"

namespace specbranch {

/// Called by all threads of `count` blocks: true in the block that arrives last, which then sees
/// what the others wrote before. The ticket must be 0 at first, and is 0 again afterwards.
__device__ inline bool is_last_block(unsigned* ticket, unsigned count) {
  __syncthreads();
  bool last = false;
  if (threadIdx.x == 0) {
    last = atomic_add_acq_rel(ticket, 1) == count - 1;
    if (last) *ticket = 0;
  }
  return __syncthreads_or(last) != 0;
}

}  // namespace specbranch
