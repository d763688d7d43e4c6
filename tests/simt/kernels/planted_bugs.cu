// One kernel for each kind of bug. Every one reverses a block of 64 numbers, or would.

#include "bind.hpp"
#include "common/cuda/launch.cuh"
#include "common/cuda/prims.cuh"

namespace {

using namespace specbranch;

constexpr int kThreads = 64;

using Kernel = void(const float* in, float* out);  // [64], [64 + 2 * 64 + 1]

__global__ void correct(const float* in, float* out) {
  SPECBRANCH_SHARED(tile, float[kThreads]);
  tile[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = tile[kThreads - 1 - threadIdx.x];
}

__global__ void missing_barrier(const float* in, float* out) {
  SPECBRANCH_SHARED(tile, float[kThreads]);
  tile[threadIdx.x] = in[threadIdx.x];
  out[threadIdx.x] = tile[kThreads - 1 - threadIdx.x];  // bug
}

__global__ void missing_barrier_before_reuse(const float* in, float* out) {
  SPECBRANCH_SHARED(tile, float[kThreads]);
  tile[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = tile[kThreads - 1 - threadIdx.x];
  tile[threadIdx.x] = 0;  // bug
}

__global__ void missing_warp_barrier(const float* in, float* out) {
  SPECBRANCH_SHARED(tile, float[kThreads]);
  tile[threadIdx.x] = in[threadIdx.x];
  const float other = tile[threadIdx.x ^ 1];  // bug
  __syncthreads();
  out[kThreads - 1 - (threadIdx.x ^ 1)] = other;
}

__global__ void global_read_out_of_bounds(const float* in, float* out) {
  out[threadIdx.x] = in[kThreads - threadIdx.x];  // bug
}

__global__ void global_write_out_of_bounds(const float* in, float* out) {
  out[3 * kThreads + 1 - threadIdx.x] = in[threadIdx.x];  // bug
}

__global__ void shared_out_of_bounds(const float* in, float* out) {
  SPECBRANCH_SHARED(tile, float[kThreads]);
  tile[threadIdx.x + 1] = in[threadIdx.x];  // bug
  __syncthreads();
  out[threadIdx.x] = tile[kThreads - threadIdx.x];
}

__global__ void write_to_input(const float* in, float* out) {
  const_cast<float*>(in)[threadIdx.x] = 0;  // bug
  out[threadIdx.x] = 0;
}

__global__ void two_writers(const float* in, float* out) {
  out[threadIdx.x / 2] = in[threadIdx.x];  // bug
}

__global__ void wait_too_short(const float* in, float* out) {
  SPECBRANCH_SHARED(tile, float[kThreads]);
  if (threadIdx.x < kThreads / 4) cp_async_16(&tile[4 * threadIdx.x], in + 4 * threadIdx.x);
  cp_async_commit();
  cp_async_wait<1>();  // bug
  __syncthreads();
  out[threadIdx.x] = tile[kThreads - 1 - threadIdx.x];
  cp_async_wait<0>();
}

__global__ void copy_never_waited_for(const float* in, float* out) {
  SPECBRANCH_SHARED(tile, float[kThreads]);
  cp_async_16(&tile[0], in);
  cp_async_commit();
  out[threadIdx.x] = 0;
}  // bug

__global__ void divergent_barrier(const float* in, float* out) {
  SPECBRANCH_SHARED(tile, float[kThreads]);
  tile[threadIdx.x] = in[threadIdx.x];
  if (threadIdx.x < 32) {
    __syncthreads();  // bug
  } else {
    __syncthreads();
  }
  out[threadIdx.x] = tile[kThreads - 1 - threadIdx.x];
}

__global__ void exit_before_barrier(const float* in, float* out) {
  if (threadIdx.x == 7) return;  // bug
  __syncthreads();
  out[threadIdx.x] = in[kThreads - 1 - threadIdx.x];
}

__global__ void divergent_shuffle(const float* in, float* out) {
  float value = in[threadIdx.x];
  if (threadIdx.x < 40) value = __shfl_xor_sync(kFullWarp, value, 31);  // bug
  out[threadIdx.x ^ 32] = value;
}

__global__ void misaligned_vector(const float* in, float* out) {
  if (threadIdx.x < 15) store_16(out + 4 * threadIdx.x, load_16(in + 4 * threadIdx.x + 1));  // bug
}

__global__ void wait_for_nobody(const float* in, float* out) {
  wait_until_set(reinterpret_cast<unsigned*>(out + 3 * kThreads));  // bug
  out[threadIdx.x] = in[threadIdx.x];
}

/// Two blocks, of which the last to arrive copies what the other wrote.
template <bool kFence>
__device__ void hand_over(const float* in, float* out) {
  SPECBRANCH_SHARED(is_last, bool);
  float* mail = out + kThreads;
  auto* ticket = reinterpret_cast<unsigned*>(mail + 2 * kThreads);
  mail[blockIdx.x * kThreads + threadIdx.x] = in[kThreads - 1 - threadIdx.x];
  __syncthreads();
  if (threadIdx.x == 0) {
    is_last = (kFence ? atomic_add_acq_rel(ticket, 1) : atomicAdd(ticket, 1u)) == 1;
  }
  __syncthreads();
  if (is_last) out[threadIdx.x] = mail[(1 - blockIdx.x) * kThreads + threadIdx.x];  // bug
}

__global__ void fenced_hand_over(const float* in, float* out) { hand_over<true>(in, out); }
__global__ void missing_fence(const float* in, float* out) { hand_over<false>(in, out); }

int run(Kernel* kernel, const float* in, float* out, unsigned blocks = 1) {
  return simt::guarded([&] { launch_kernel("", kernel, {blocks, kThreads}, {}, in, out); });
}

}  // namespace

#define PLANTED(kernel, ...)                                  \
  SIMT_EXPORT int run_##kernel(const float* in, float* out) { \
    return run(kernel, in, out, ##__VA_ARGS__);               \
  }

PLANTED(correct)
PLANTED(missing_barrier)
PLANTED(missing_barrier_before_reuse)
PLANTED(missing_warp_barrier)
PLANTED(global_read_out_of_bounds)
PLANTED(global_write_out_of_bounds)
PLANTED(shared_out_of_bounds)
PLANTED(write_to_input)
PLANTED(two_writers)
PLANTED(wait_too_short)
PLANTED(copy_never_waited_for)
PLANTED(divergent_barrier)
PLANTED(exit_before_barrier)
PLANTED(divergent_shuffle)
PLANTED(misaligned_vector)
PLANTED(wait_for_nobody)
PLANTED(fenced_hand_over, 2)
PLANTED(missing_fence, 2)
