#pragma once

// Stands in for the toolkit's header of the same name: kernels compiled by a host compiler, each
// of their threads a fiber. Shared memory comes from common/cuda/prims.cuh.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "atomics.hpp"
#include "collectives.hpp"
#include "cuda/cuda_runtime_api.h"
#include "cuda/vector_types.h"
#include "fences.hpp"

#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)
#define __restrict__ __restrict

extern uint3 threadIdx;
extern uint3 blockIdx;
extern dim3 blockDim;
extern dim3 gridDim;
inline constexpr int warpSize = 32;

using std::max;
using std::min;

#define SIMT_HERE simt::Location where = std::source_location::current()

inline void __syncthreads(SIMT_HERE) { simt::barrier(0, where); }
inline int __syncthreads_count(int predicate, SIMT_HERE) { return simt::barrier(predicate, where); }
inline int __syncthreads_or(int predicate, SIMT_HERE) {
  return simt::barrier(predicate, where) > 0;
}
inline int __syncthreads_and(int predicate, SIMT_HERE) {
  return simt::barrier(predicate == 0, where) == 0;
}
inline void __syncwarp(unsigned mask = 0xffffffffu, SIMT_HERE) { simt::sync_warp(mask, where); }

inline unsigned __ballot_sync(unsigned mask, int predicate, SIMT_HERE) {
  return simt::ballot(mask, predicate != 0, where);
}
inline int __any_sync(unsigned mask, int predicate, SIMT_HERE) {
  return simt::ballot(mask, predicate != 0, where) != 0;
}
inline int __all_sync(unsigned mask, int predicate, SIMT_HERE) {
  return simt::ballot(mask, predicate == 0, where) == 0;
}

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = warpSize, SIMT_HERE) {
  const int base = simt::lane_id() & ~(width - 1);
  simt::shuffle(mask, &value, sizeof(T), base | (source & (width - 1)), where);
  return value;
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = warpSize, SIMT_HERE) {
  const int lane = simt::lane_id();
  const int source = lane ^ bits;
  const bool inside = source < (lane & ~(width - 1)) + width;
  simt::shuffle(mask, &value, sizeof(T), inside ? source : lane, where);
  return value;
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize, SIMT_HERE) {
  const int lane = simt::lane_id();
  const int source = lane + static_cast<int>(delta);
  const bool inside = source < (lane & ~(width - 1)) + width;
  simt::shuffle(mask, &value, sizeof(T), inside ? source : lane, where);
  return value;
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize, SIMT_HERE) {
  const int lane = simt::lane_id();
  const int source = lane - static_cast<int>(delta);
  const bool inside = source >= (lane & ~(width - 1));
  simt::shuffle(mask, &value, sizeof(T), inside ? source : lane, where);
  return value;
}

inline unsigned __reduce_add_sync(unsigned mask, unsigned value, SIMT_HERE) {
  return simt::reduce(mask, value, simt::Reduction::kAdd, where);
}
inline unsigned __reduce_max_sync(unsigned mask, unsigned value, SIMT_HERE) {
  return simt::reduce(mask, value, simt::Reduction::kMax, where);
}
inline unsigned __reduce_min_sync(unsigned mask, unsigned value, SIMT_HERE) {
  return simt::reduce(mask, value, simt::Reduction::kMin, where);
}

inline void __threadfence() { simt::fence(); }

template <class T>
__forceinline__ T atomicAdd(T* address, T value) {
  return simt::atomic_update(address, [&](T old) { return static_cast<T>(old + value); });
}
template <class T>
__forceinline__ T atomicMax(T* address, T value) {
  return simt::atomic_update(address, [&](T old) { return max(old, value); });
}
template <class T>
__forceinline__ T atomicMin(T* address, T value) {
  return simt::atomic_update(address, [&](T old) { return min(old, value); });
}
template <class T>
__forceinline__ T atomicOr(T* address, T value) {
  return simt::atomic_update(address, [&](T old) { return old | value; });
}
template <class T>
__forceinline__ T atomicExch(T* address, T value) {
  return simt::atomic_update(address, [&](T) { return value; });
}
template <class T>
__forceinline__ T atomicCAS(T* address, T expected, T value) {
  return simt::atomic_update(address, [&](T old) { return old == expected ? value : old; });
}
__forceinline__ unsigned atomicInc(unsigned* address, unsigned limit) {
  return simt::atomic_update(address, [&](unsigned old) { return old >= limit ? 0 : old + 1; });
}

template <class T>
__forceinline__ T __ldg(const T* address) {
  return *address;
}

inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __log2f(float x) { return std::log2(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline int __popc(unsigned bits) { return std::popcount(bits); }
inline int __popcll(unsigned long long bits) { return std::popcount(bits); }
inline int __clz(int bits) { return std::countl_zero(static_cast<unsigned>(bits)); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(std::uint64_t{a} * b >> 32);
}
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __int_as_float(int bits) { return std::bit_cast<float>(bits); }
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
