#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "cuda/vector_types.h"

// CUDA's 16-bit floats, rounding to nearest even.

struct __half {
  std::uint16_t bits;

  __half() = default;
  explicit __half(float x) : bits(std::bit_cast<std::uint16_t>(static_cast<_Float16>(x))) {}
  explicit operator float() const { return static_cast<float>(std::bit_cast<_Float16>(bits)); }
  static __half from_bits(std::uint16_t bits) { return std::bit_cast<__half>(bits); }
};

struct __nv_bfloat16 {
  std::uint16_t bits;

  __nv_bfloat16() = default;
  explicit __nv_bfloat16(float x) {
    const auto word = std::bit_cast<std::uint32_t>(x);
    bits = static_cast<std::uint16_t>(std::isnan(x) ? 0x7fff
                                                    : (word + 0x7fff + (word >> 16 & 1)) >> 16);
  }
  explicit operator float() const { return std::bit_cast<float>(std::uint32_t{bits} << 16); }
  static __nv_bfloat16 from_bits(std::uint16_t bits) { return std::bit_cast<__nv_bfloat16>(bits); }
};

struct alignas(4) __half2 {
  __half x, y;
};

struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};

inline __half __float2half(float x) { return __half(x); }
inline float __half2float(__half x) { return static_cast<float>(x); }
inline __half2 __floats2half2_rn(float x, float y) { return {__half(x), __half(y)}; }
inline float2 __half22float2(__half2 pair) {
  return {static_cast<float>(pair.x), static_cast<float>(pair.y)};
}

inline __nv_bfloat16 __float2bfloat16(float x) { return __nv_bfloat16(x); }
inline float __bfloat162float(__nv_bfloat16 x) { return static_cast<float>(x); }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) {
  return {__nv_bfloat16(x), __nv_bfloat16(y)};
}
inline float2 __bfloat1622float2(__nv_bfloat162 pair) {
  return {static_cast<float>(pair.x), static_cast<float>(pair.y)};
}
