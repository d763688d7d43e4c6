#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

// What CUDA C++ has no words for: shared memory, asynchronous copies, tensor cores, wide loads.
// Kernels use these instead of inline assembly, so that their tests can run the same sources on a
// CPU, where a header of the same name gives these functions another body.

/// A variable in shared memory: SPECBRANCH_SHARED(scores, float[kWarps][32]).
#define SPECBRANCH_SHARED(name, ...) __shared__ __align__(16) std::type_identity_t<__VA_ARGS__> name

/// The shared memory whose size the launch gives, as bytes aligned to 128.
#define SPECBRANCH_DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]

namespace specbranch {

inline constexpr unsigned kFullWarp = 0xffffffffu;

__device__ __forceinline__ unsigned shared_address(const void* pointer) {
  return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

/// Starts copying 16 bytes from global to shared memory, past L1; L2 fetches their whole line of
/// 128 bytes. If not `valid`, nothing is read and zeros are written.
__device__ __forceinline__ void cp_async_16(void* shared, const void* global, bool valid = true) {
  asm volatile(
      "cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;\n" ::"r"(shared_address(shared)),
      "l"(global), "r"(valid ? 16 : 0)
      : "memory");
}

/// Ends a group of this thread's copies.
__device__ __forceinline__ void cp_async_commit() {
  asm volatile("cp.async.commit_group;\n" ::: "memory");
}

/// Waits until at most the kGroups latest groups of this thread are under way.
template <int kGroups>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kGroups) : "memory");
}

// ldmatrix: lanes 8i ... 8i + 7 point to the rows, of 16 bytes, of the 8x8 matrix i of 16-bit
// elements. registers[i] gets elements (lane / 4, 2 (lane % 4)) and the next of matrix i; `trans`
// transposes each matrix first.

__device__ __forceinline__ void ldmatrix_x4(std::uint32_t (&registers)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
               : "r"(shared_address(row))
               : "memory");
}

__device__ __forceinline__ void ldmatrix_x4_trans(std::uint32_t (&registers)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
               : "r"(shared_address(row))
               : "memory");
}

/// d += a b on tensor cores: a [16, 16] and b [16, 8] of T (__half or __nv_bfloat16), d [16, 8].
template <class T>
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4],
                                             const std::uint32_t (&b)[2]);

template <>
__device__ __forceinline__ void mma_m16n8k16<__half>(float (&d)[4], const std::uint32_t (&a)[4],
                                                     const std::uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <>
__device__ __forceinline__ void mma_m16n8k16<__nv_bfloat16>(float (&d)[4],
                                                            const std::uint32_t (&a)[4],
                                                            const std::uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// Two floats as a pair of T, x in the low half: an element pair of a fragment.
template <class T>
__device__ __forceinline__ std::uint32_t pack_pair(float x, float y);

template <>
__device__ __forceinline__ std::uint32_t pack_pair<__half>(float x, float y) {
  const __half2 pair = __floats2half2_rn(x, y);
  return reinterpret_cast<const std::uint32_t&>(pair);
}

template <>
__device__ __forceinline__ std::uint32_t pack_pair<__nv_bfloat16>(float x, float y) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(x, y);
  return reinterpret_cast<const std::uint32_t&>(pair);
}

/// 16 bytes at once; the address must be a multiple of 16.
__device__ __forceinline__ uint4 load_16(const void* from) {
  return *static_cast<const uint4*>(from);
}

__device__ __forceinline__ void store_16(void* to, const uint4& value) {
  *static_cast<uint4*>(to) = value;
}

/// 2^x, with two units in the last place.
__device__ __forceinline__ float exp2_approx(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(result) : "f"(x));
  return result;
}

/// Adds to a counter in global memory. Whoever sees the sum also sees what the calling threads had
/// written before; barriers extend this to their blocks.
__device__ __forceinline__ unsigned atomic_add_acq_rel(unsigned* counter, unsigned value) {
  unsigned old;
  asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], %2;\n"
               : "=r"(old)
               : "l"(counter), "r"(value)
               : "memory");
  return old;
}

/// Waits until a counter in global memory is not 0, and sees what the thread that changed it had
/// written before; barriers extend this to the blocks. That thread's block must have started.
__device__ __forceinline__ void wait_until_set(const unsigned* counter) {
  for (;;) {
    unsigned value;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];\n" : "=r"(value) : "l"(counter) : "memory");
    if (value != 0) return;
    __nanosleep(32);
  }
}

}  // namespace specbranch
