#pragma once

// The primitives of csrc/common/cuda/prims.cuh with bodies for the simulated device.

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "async_copy.hpp"
#include "machine.hpp"
#include "memory.hpp"
#include "tensor_core.hpp"

#define SPECBRANCH_SHARED(name, ...)                                  \
  static const char name##_key = 0;                                   \
  auto& name = *reinterpret_cast<std::type_identity_t<__VA_ARGS__>*>( \
      simt::shared_variable(&name##_key, sizeof(std::type_identity_t<__VA_ARGS__>)))

#define SPECBRANCH_DYNAMIC_SHARED(name) \
  auto* name = reinterpret_cast<unsigned char*>(simt::dynamic_shared())

namespace specbranch {

inline constexpr unsigned kFullWarp = 0xffffffffu;

#define SIMT_PRIMITIVE inline __attribute__((noinline, no_sanitize("thread")))
#define SIMT_CALLER __builtin_return_address(0)

SIMT_PRIMITIVE void cp_async_16(void* shared, const void* global, bool valid = true) {
  simt::start_copy(shared, global, valid ? 16 : 0, SIMT_CALLER);
}

SIMT_PRIMITIVE void cp_async_commit() { simt::commit_copies(); }

template <int kGroups>
SIMT_PRIMITIVE void cp_async_wait() {
  simt::wait_copies(kGroups);
}

SIMT_PRIMITIVE void ldmatrix_x4(std::uint32_t (&registers)[4], const void* row, SIMT_HERE) {
  simt::load_matrices(registers, false, row, where, SIMT_CALLER);
}
SIMT_PRIMITIVE void ldmatrix_x4_trans(std::uint32_t (&registers)[4], const void* row, SIMT_HERE) {
  simt::load_matrices(registers, true, row, where, SIMT_CALLER);
}

template <class T>
SIMT_PRIMITIVE void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4],
                                 const std::uint32_t (&b)[2], SIMT_HERE) {
  static_assert(std::is_same_v<T, __half> || std::is_same_v<T, __nv_bfloat16>);
  if constexpr (std::is_same_v<T, __half>) {
    simt::multiply_fp16(d, a, b, where);
  } else {
    simt::multiply_bf16(d, a, b, where);
  }
}

template <class T>
std::uint32_t pack_pair(float x, float y) {
  return T(x).bits | std::uint32_t{T(y).bits} << 16;
}

SIMT_PRIMITIVE uint4 load_16(const void* from) {
  simt::on_access(from, 16, false, SIMT_CALLER);
  return *static_cast<const uint4*>(from);
}
SIMT_PRIMITIVE void store_16(void* to, const uint4& value) {
  simt::on_access(to, 16, true, SIMT_CALLER);
  *static_cast<uint4*>(to) = value;
}

inline float exp2_approx(float x) { return std::exp2(x); }

SIMT_PRIMITIVE unsigned atomic_add_acq_rel(unsigned* counter, unsigned value) {
  simt::fence();
  const unsigned old = atomicAdd(counter, value);
  simt::fence();
  return old;
}

SIMT_PRIMITIVE void wait_until_set(const unsigned* counter, SIMT_HERE) {
  while (*static_cast<const volatile unsigned*>(counter) == 0) simt::spin(where);
  simt::note_atomic(counter);
  simt::fence();
}

}  // namespace specbranch
