#pragma once

#include <cmath>
#include <cstdint>

#include "common/philox.h"

// Gumbel noise of a random word x: u = (x + 1/2) 2^-32, E = -log(1 - u), G = -log(E).
//
// Only IEEE operations and explicit fused multiply-adds are used, so every compiler, processor and
// GPU computes the same bits, and plain loops over these functions vectorise. |error| < 3e-7 where
// |G| < 1, and relative to G elsewhere, at both ends:
//   u -> 0 (G up to 22.9, the end that decides draws): 1 - u would lose u, so log1p(-u) is computed
//     from u, which float holds to full relative precision;
//   u -> 1 (G down to -3.1): u would round to 1, so 1 - u is computed from the complement of x.

namespace specbranch {

/// No noise is larger: G at x = 0, rounded up.
constexpr float kMaxGumbel = 22.875f;

namespace gumbel_detail {

constexpr float kLog2 = 0x1.62e43p-1f;

/// (x + 1/2) 2^-32, rounded once; in halves, because AVX2 converts signed integers only.
SPECBRANCH_HOST_DEVICE_INLINE float unit_interval(std::uint32_t x) {
  const auto high = static_cast<float>(static_cast<std::int32_t>(x >> 16));
  const auto low = static_cast<float>(static_cast<std::int32_t>(x & 0xFFFF));
  return fmaf(high, 0x1p-16f, (low + 0.5f) * 0x1p-32f);
}

/// log(1 + t) for sqrt(1/2) <= 1 + t <= sqrt(2): t - t^2 / 2 + t^3 p(t), p a minimax polynomial.
SPECBRANCH_HOST_DEVICE_INLINE float log1p_near_zero(float t) {
  float p = -0.0763442963f;
  p = fmaf(p, t, 0.127615497f);
  p = fmaf(p, t, -0.131601945f);
  p = fmaf(p, t, 0.142017618f);
  p = fmaf(p, t, -0.166233569f);
  p = fmaf(p, t, 0.200012267f);
  p = fmaf(p, t, -0.250008225f);
  p = fmaf(p, t, 0.333333313f);
  return fmaf(t * t, fmaf(p, t, -0.5f), t);
}

/// v = mantissa * 2^exponent with sqrt(1/2) <= mantissa < sqrt(2), for normal v > 0.
struct Scaled {
  float mantissa, exponent;
};

SPECBRANCH_HOST_DEVICE_INLINE Scaled split(float v) {
  constexpr std::uint32_t kSqrtHalf = 0x3F3504F3;
  const auto bits = __builtin_bit_cast(std::uint32_t, v);
  const std::int32_t exponent = static_cast<std::int32_t>(bits - kSqrtHalf) >> 23;
  const std::uint32_t mantissa = bits - (static_cast<std::uint32_t>(exponent) << 23);
  return {__builtin_bit_cast(float, mantissa), static_cast<float>(exponent)};
}

/// condition ? a : b without control flow, which would keep a loop from being vectorised.
SPECBRANCH_HOST_DEVICE_INLINE float select(bool condition, float a, float b) {
  const std::uint32_t mask = condition ? 0xFFFFFFFFu : 0u;
  return __builtin_bit_cast(float, (__builtin_bit_cast(std::uint32_t, a) & mask) |
                                       (__builtin_bit_cast(std::uint32_t, b) & ~mask));
}

}  // namespace gumbel_detail

/// Standard exponential noise E of a random word; about u where that is small.
SPECBRANCH_HOST_DEVICE_INLINE float exponential_noise(std::uint32_t x) {
  using namespace gumbel_detail;
  const float u = unit_interval(x);
  const Scaled rest = split(unit_interval(~x));  // 1 - u; its exponent is 0 where u < 1/4
  const float t = select(u < 0.25f, -u, rest.mantissa - 1.0f);
  return -fmaf(rest.exponent, kLog2, log1p_near_zero(t));
}

/// Standard Gumbel noise G of a random word.
SPECBRANCH_HOST_DEVICE_INLINE float gumbel_noise(std::uint32_t x) {
  using namespace gumbel_detail;
  const Scaled e = split(exponential_noise(x));
  return -fmaf(e.exponent, kLog2, log1p_near_zero(e.mantissa - 1.0f));
}

/// An upper bound of gumbel_noise(x) without a logarithm: E > u, and the bits of a float read as an
/// integer, scaled, are a lower bound of its binary logarithm (Mitchell 1962), 0.09 off at most.
SPECBRANCH_HOST_DEVICE_INLINE float gumbel_bound(std::uint32_t x) {
  using namespace gumbel_detail;
  const auto bits = static_cast<float>(__builtin_bit_cast(std::int32_t, unit_interval(x)));
  return fmaf(bits, -0x1p-23f * kLog2, 127.001f * kLog2);
}

/// The score of a token under noise word x: its logit, relative to `origin` and over the
/// temperature, plus Gumbel noise. The token of the highest score is a draw from softmax(logits /
/// T); the k highest are k draws without replacement (Vieira 2014; Kool et al. 2019).
SPECBRANCH_HOST_DEVICE_INLINE float perturbed_score(float logit, float origin,
                                                    float inverse_temperature, float noise) {
  return fmaf(logit - origin, inverse_temperature, noise);
}

}  // namespace specbranch
