#pragma once

#include "common/cuda/prims.cuh"

namespace specbranch {

/// The place of this block in the order in which the `count` blocks of the grid have started. A
/// block may wait for what one with an earlier turn will do, however few run at the same time
/// (Merrill and Garland, Single-pass parallel prefix scan with decoupled look-back, 2016). `next`
/// must be 0 at first, and is 0 again when all have started.
__device__ inline unsigned take_turn(unsigned* next, unsigned count) {
  SPECBRANCH_SHARED(turn, unsigned);
  if (threadIdx.x == 0) {
    turn = atomicAdd(next, 1u);
    if (turn == count - 1) *next = 0;
  }
  __syncthreads();
  return turn;
}

/// One block hands something over to `count` others, which have later turns.
class HandOver {
 public:
  /// `state` must be 0 at first, and is 0 again when all have taken.
  __device__ explicit HandOver(unsigned* state) : state_(state) {}

  /// By one thread, after it has written.
  __device__ void give() const { atomic_add_acq_rel(state_, 1); }

  /// By all threads of a block: waits, and sees what was handed over.
  __device__ void take(unsigned count) const {
    if (threadIdx.x == 0) {
      wait_until_set(state_);
      if (atomicAdd(state_, 1u) == count) *state_ = 0;
    }
    __syncthreads();
  }

 private:
  unsigned* state_;
};

}  // namespace specbranch
