// Kernels that are little more than one primitive each: the harness's own tests.

#include "bind.hpp"
#include "common/cuda/launch.cuh"
#include "common/cuda/prims.cuh"

namespace {

using namespace specbranch;

/// c[16, 16] = a[16, 16] b[16, 16], b given as [k, n] and loaded transposed.
template <class T>
__global__ void multiply_kernel(const T* a, const T* b, float* c) {
  SPECBRANCH_SHARED(a_tile, T[16][24]);
  SPECBRANCH_SHARED(b_tile, T[16][24]);
  const int lane = static_cast<int>(threadIdx.x);
  cp_async_16(&a_tile[lane / 2][lane % 2 * 8], a + lane * 8);
  cp_async_16(&b_tile[lane / 2][lane % 2 * 8], b + lane * 8);
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();
  std::uint32_t a_registers[4];
  std::uint32_t b_registers[4];
  ldmatrix_x4(a_registers, &a_tile[lane % 16][lane / 16 * 8]);
  ldmatrix_x4_trans(b_registers, &b_tile[lane % 16][lane / 16 * 8]);
  for (int half = 0; half < 2; ++half) {
    float sums[4] = {};
    mma_m16n8k16<T>(sums, a_registers, {b_registers[2 * half], b_registers[2 * half + 1]});
    float* out = c + lane / 4 * 16 + 8 * half + lane % 4 * 2;
    for (int i = 0; i < 4; ++i) out[i / 2 * 8 * 16 + i % 2] = sums[i];
  }
}

/// Eight values of every lane: what shuffles, votes and reductions give it.
__global__ void collectives_kernel(const int* in, int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  const int value = in[lane];
  out[lane * 8 + 0] = __shfl_sync(kFullWarp, value, 5);
  out[lane * 8 + 1] = __shfl_xor_sync(kFullWarp, value, 3);
  out[lane * 8 + 2] = __shfl_down_sync(kFullWarp, value, 2, 8);
  out[lane * 8 + 3] = __shfl_up_sync(kFullWarp, value, 1);
  out[lane * 8 + 4] = static_cast<int>(__ballot_sync(kFullWarp, value > 0));
  out[lane * 8 + 5] = __any_sync(kFullWarp, value == in[31]);
  out[lane * 8 + 6] = static_cast<int>(__reduce_max_sync(kFullWarp, static_cast<unsigned>(lane)));
  out[lane * 8 + 7] = __syncthreads_count(value > 0);
}

/// The sum of all elements: the block that arrives last adds the sums of the others.
__global__ void sum_kernel(const int* in, int size, int* partial, unsigned* ticket, int* out) {
  SPECBRANCH_SHARED(sum, int);
  SPECBRANCH_SHARED(is_last, bool);
  if (threadIdx.x == 0) sum = 0;
  __syncthreads();
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < size) atomicAdd(&sum, in[i]);
  __syncthreads();
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = sum;
    is_last = atomic_add_acq_rel(ticket, 1) == gridDim.x - 1;
  }
  __syncthreads();
  if (!is_last || threadIdx.x > 0) return;
  int total = 0;
  for (unsigned block = 0; block < gridDim.x; ++block) total += partial[block];
  *out = total;
}

/// Which block came how manieth, after two barriers.
__global__ void arrivals_kernel(unsigned* ticket, unsigned* place_of_block) {
  __syncthreads();
  __syncthreads();
  if (threadIdx.x == 0) place_of_block[blockIdx.x] = atomicAdd(ticket, 1u);
}

/// Lane i touches word i * stride of shared memory, then of global memory.
__global__ void stride_kernel(float* data, int stride) {
  SPECBRANCH_DYNAMIC_SHARED(bytes);
  auto* words = reinterpret_cast<float*>(bytes);
  words[threadIdx.x * stride] = 1;
  __syncwarp();  // or a compiler would know what is read
  data[threadIdx.x * stride] = words[threadIdx.x * stride];
}

/// What shared memory holds before anything is written there.
__global__ void fresh_kernel(float* out) {
  SPECBRANCH_DYNAMIC_SHARED(bytes);
  *out = *reinterpret_cast<const float*>(bytes);
}

}  // namespace

SIMT_EXPORT int multiply_fp16(const __half* a, const __half* b, float* c) {
  return simt::guarded([&] { launch_kernel("", multiply_kernel<__half>, {1, 32}, {}, a, b, c); });
}

SIMT_EXPORT int multiply_bf16(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c) {
  return simt::guarded(
      [&] { launch_kernel("", multiply_kernel<__nv_bfloat16>, {1, 32}, {}, a, b, c); });
}

SIMT_EXPORT int collectives(const int* in, int* out) {
  return simt::guarded([&] { launch_kernel("", collectives_kernel, {1, 32}, {}, in, out); });
}

SIMT_EXPORT int sum(const int* in, int size, int* partial, unsigned* ticket, int* out) {
  const unsigned blocks = static_cast<unsigned>(size + 63) / 64;
  return simt::guarded(
      [&] { launch_kernel("", sum_kernel, {blocks, 64}, {}, in, size, partial, ticket, out); });
}

SIMT_EXPORT int arrivals(int blocks, unsigned* ticket, unsigned* place_of_block) {
  const LaunchShape shape{static_cast<unsigned>(blocks), 32};
  return simt::guarded(
      [&] { launch_kernel("", arrivals_kernel, shape, {}, ticket, place_of_block); });
}

SIMT_EXPORT int strided(float* data, int stride) {
  const std::size_t bytes = sizeof(float) * 32 * stride;
  return simt::guarded([&] { launch_kernel("", stride_kernel, {1, 32, bytes}, {}, data, stride); });
}

SIMT_EXPORT int fresh(float* out) {
  return simt::guarded([&] { launch_kernel("", fresh_kernel, {1, 1, sizeof(float)}, {}, out); });
}
