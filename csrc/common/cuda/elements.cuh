#pragma once

#include <cstdint>
#include <type_traits>

#include "common/cuda/prims.cuh"
#include "common/dtype.h"

// Model data on the device: its element types, and as floats, several at once.
namespace specbranch {

inline constexpr int kWideAccess = 16;  // bytes

/// Calls f(T{}) with the device's element type.
template <class F>
void dispatch_element(DType dtype, const F& f) {
  switch (dtype) {
    case DType::kFloat32:
      return f(float{});
    case DType::kFloat16:
      return f(__half{});
    case DType::kBFloat16:
      return f(__nv_bfloat16{});
  }
}

/// Calls f(T{}, count) with the device's element type and how many elements an access moves, as an
/// integral constant: 16 bytes where all is `wide`, else one element.
template <class F>
void dispatch_access(DType dtype, bool wide, const F& f) {
  dispatch_element(dtype, [&]<class T>(T element) {
    if (wide) {
      f(element, std::integral_constant<int, kWideAccess / sizeof(T)>{});
    } else {
      f(element, std::integral_constant<int, 1>{});
    }
  });
}

inline std::int64_t address(const void* data) { return reinterpret_cast<std::intptr_t>(data); }

/// Whether addresses and strides in bytes, or-ed together, are whole wide accesses.
constexpr bool is_wide(std::int64_t bits) { return bits % kWideAccess == 0; }

template <class T, int kCount>
struct Elements {
  T at[kCount];
};

/// kCount neighbours: 16 bytes, aligned to that, or one element.
template <int kCount, class T>
__device__ __forceinline__ void load_floats(const T* from, float (&x)[kCount]) {
  if constexpr (kCount == 1) {
    x[0] = static_cast<float>(*from);
  } else {
    const auto elements = __builtin_bit_cast(Elements<T, kCount>, load_16(from));
#pragma unroll
    for (int i = 0; i < kCount; ++i) x[i] = static_cast<float>(elements.at[i]);
  }
}

template <int kCount, class T>
__device__ __forceinline__ void store_floats(T* to, const float (&x)[kCount]) {
  Elements<T, kCount> elements;
#pragma unroll
  for (int i = 0; i < kCount; ++i) elements.at[i] = static_cast<T>(x[i]);
  if constexpr (kCount == 1) {
    *to = elements.at[0];
  } else {
    store_16(to, __builtin_bit_cast(uint4, elements));
  }
}

}  // namespace specbranch
