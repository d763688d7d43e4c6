#pragma once

#include <ATen/cpu/vec/functional.h>
#include <ATen/cpu/vec/vec.h>

#include <cstdint>
#include <tuple>

#include "common/cpu/kernels.h"
#include "common/dtype.h"

// Model data of any dtype as vectors of floats.
namespace specbranch::SPECBRANCH_CPU_NS {

using Vec = at::vec::Vectorized<float>;
using Half = c10::Half;
using BFloat16 = c10::BFloat16;

inline constexpr int kLanes = Vec::size();

constexpr std::int64_t round_up_to_lanes(std::int64_t count) {
  return (count + kLanes - 1) / kLanes * kLanes;
}

/// Calls f(T{}) with the C++ type of `dtype`.
template <class F>
void dispatch_dtype(DType dtype, const F& f) {
  switch (dtype) {
    case DType::kFloat32:
      return f(float{});
    case DType::kFloat16:
      return f(Half{});
    case DType::kBFloat16:
      return f(BFloat16{});
  }
}

inline Vec load(const float* data) { return Vec::loadu(data); }

inline Vec load(const Half* data) {
  Vec result;
  at::vec::load_fp32_from_fp16(data, result);
  return result;
}

inline Vec load(const BFloat16* data) {
  Vec result;
  at::vec::load_fp32_from_bf16(data, result);
  return result;
}

/// The first `count` lanes from memory, zeros in the others. Reads nothing beyond `count`.
inline Vec load(const float* data, std::int64_t count) { return Vec::loadu(data, count); }

template <class T>
Vec load(const T* data, std::int64_t count) {
  const auto narrow = at::vec::Vectorized<T>::loadu(data, count);
  return std::get<0>(at::vec::convert_to_float<T>(narrow));
}

/// Writes the first `count` lanes.
inline void store(float* data, const Vec& value, std::int64_t count = kLanes) {
  value.store(data, static_cast<int>(count));
}

template <class T>
void store(T* data, const Vec& value, std::int64_t count = kLanes) {
  at::vec::convert_from_float<T>(value, value).store(data, static_cast<int>(count));
}

inline float sum(const Vec& value) {
  return at::vec::vec_reduce_all<float>([](const Vec& a, const Vec& b) { return a + b; }, value);
}

/// e^x for x <= 0, within 2 ulp where the result is normal and 0 where it is not. NaN stays NaN.
/// Inline, so that a loop around it keeps its registers (a Sleef call would spill them all).
inline Vec exp_nonpositive(const Vec& x) {
  const Vec smallest(-87.3365f);
  const Vec bounded = at::vec::clamp_min(x, smallest);
  const Vec exponent = (bounded * Vec(1.442695041f)).round();
  const Vec high = at::vec::fmadd(exponent, Vec(-0.693359375f), bounded);
  const Vec r = at::vec::fmadd(exponent, Vec(2.12194440e-4f), high);

  Vec series(1.9875691500e-4f);
  series = at::vec::fmadd(series, r, Vec(1.3981999507e-3f));
  series = at::vec::fmadd(series, r, Vec(8.3334519073e-3f));
  series = at::vec::fmadd(series, r, Vec(4.1665795894e-2f));
  series = at::vec::fmadd(series, r, Vec(1.6666665459e-1f));
  series = at::vec::fmadd(series, r, Vec(5.0000001201e-1f));
  const Vec fraction = at::vec::fmadd(series, r * r, r) + Vec(1.0f);

  using Bits = at::vec::Vectorized<std::int32_t>;
  const Bits scale = at::vec::convert_to_int_of_same_size<float>(exponent) << Bits(23);
  const Vec scaled = at::vec::cast<float>(at::vec::cast<std::int32_t>(fraction) + scale);
  return Vec::blendv(scaled, Vec(0.0f), x < smallest);
}

/// The largest lane. NaN may get lost.
inline float max_ignoring_nan(const Vec& value) {
  return at::vec::vec_reduce_all<float>(
      [](const Vec& a, const Vec& b) { return at::vec::clamp_min(a, b); }, value);
}

/// Whether a comparison came out true in any lane.
inline bool any(const Vec& mask) { return mask.zero_mask() != (1 << kLanes) - 1; }

/// 2^x for x < 127, within 2 ulp where the result is normal and 0 where it is not. NaN stays NaN.
inline Vec exp2_in_range(const Vec& x) {
  const Vec smallest(-126.0f);
  const Vec bounded = at::vec::clamp_min(x, smallest);
  const Vec exponent = bounded.round();
  const Vec r = bounded - exponent;

  Vec series(1.326472731e-3f);
  series = at::vec::fmadd(series, r, Vec(9.671512991e-3f));
  series = at::vec::fmadd(series, r, Vec(5.550733581e-2f));
  series = at::vec::fmadd(series, r, Vec(2.402224243e-1f));
  series = at::vec::fmadd(series, r, Vec(6.931470037e-1f));
  const Vec fraction = at::vec::fmadd(series, r, Vec(1.0f));

  using Bits = at::vec::Vectorized<std::int32_t>;
  const Bits scale = at::vec::convert_to_int_of_same_size<float>(exponent) << Bits(23);
  const Vec scaled = at::vec::cast<float>(at::vec::cast<std::int32_t>(fraction) + scale);
  return Vec::blendv(scaled, Vec(0.0f), x < smallest);
}

/// kLanes vectors side by side.
using VecSquare = at::vec::VectorizedN<float, kLanes>;

/// rows[i][j] becomes rows[j][i].
inline void transpose(VecSquare& rows) {
#if defined(CPU_CAPABILITY_AVX512) || defined(CPU_CAPABILITY_AVX2)
  at::vec::transpose_block(rows);
#else
  // log2(lanes) rounds of a perfect shuffle
  for (int round = 1; round < kLanes; round *= 2) {
    VecSquare shuffled;
    for (int i = 0; i < kLanes / 2; ++i) {
      std::tie(shuffled[2 * i], shuffled[2 * i + 1]) =
          at::vec::interleave2(rows[i], rows[i + kLanes / 2]);
    }
    rows = shuffled;
  }
#endif
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
