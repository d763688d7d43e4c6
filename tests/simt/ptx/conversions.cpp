// cvt: between integers by value; to integers toward the named side, saturating; to floats to the
// nearest.

#include <cmath>
#include <limits>

#include "cuda/float16.hpp"
#include "instruction.hpp"

namespace simt::ptx {
namespace {

using u16 = std::uint16_t;
using u32 = std::uint32_t;

template <class F>
void for_integers(const F& f) {
  f.template operator()<std::uint8_t>("u8");
  f.template operator()<std::int8_t>("s8");
  f.template operator()<std::uint16_t>("u16");
  f.template operator()<std::int16_t>("s16");
  f.template operator()<std::uint32_t>("u32");
  f.template operator()<std::int32_t>("s32");
  f.template operator()<std::uint64_t>("u64");
  f.template operator()<std::int64_t>("s64");
}

/// Of a number that is whole. A NaN gives 0, or the highest bit of 64.
template <class I, class F>
I to_integer(F x) {
  constexpr I kLeast = std::numeric_limits<I>::min();
  constexpr I kMost = std::numeric_limits<I>::max();
  if (std::isnan(x)) {
    const bool wide = sizeof(I) == 8 || sizeof(F) == 8;
    return wide ? static_cast<I>(std::uint64_t{1} << (8 * sizeof(I) - 1)) : I{0};
  }
  if (x < static_cast<F>(kLeast)) return kLeast;
  if (x >= std::ldexp(F{1}, std::numeric_limits<I>::digits)) return kMost;
  return static_cast<I>(x);
}

template <class I, class F>
void add_to_integer(Meanings& all, const std::string& types) {
  all["cvt.rni." + types] = pure([](F x) -> I { return to_integer<I>(std::nearbyint(x)); });
  all["cvt.rzi." + types] = pure([](F x) -> I { return to_integer<I>(std::trunc(x)); });
  all["cvt.rmi." + types] = pure([](F x) -> I { return to_integer<I>(std::floor(x)); });
  all["cvt.rpi." + types] = pure([](F x) -> I { return to_integer<I>(std::ceil(x)); });
}

template <class F>
void add_whole(Meanings& all, const std::string& types) {
  all["cvt.rni." + types] = pure([](F x) -> F { return std::nearbyint(x); });
  all["cvt.rzi." + types] = pure([](F x) -> F { return std::trunc(x); });
  all["cvt.rmi." + types] = pure([](F x) -> F { return std::floor(x); });
  all["cvt.rpi." + types] = pure([](F x) -> F { return std::ceil(x); });
}

/// The first source becomes the upper half.
template <class T>
u32 pack(float high, float low) {
  return u32{T(high).bits} << 16 | T(low).bits;
}

template <class T>
void add_float16(Meanings& all, const std::string& type) {
  all["cvt.rn." + type + ".f32"] = pure([](float x) -> u16 { return T(x).bits; });
  all["cvt.f32." + type] =
      pure([](u16 bits) -> float { return static_cast<float>(T::from_bits(bits)); });
  all["cvt.rn." + type + "x2.f32"] = pure([](float high, float low) { return pack<T>(high, low); });
}

/// To [0, 1]; a NaN gives 0.
float saturate(float x) { return x > 0 ? std::fmin(x, 1.0f) : 0.0f; }

}  // namespace

void add_conversions(Meanings& all) {
  for_integers([&]<class D>(const std::string& to) {
    for_integers([&]<class S>(const std::string& from) {
      all["cvt." + to + "." + from] = pure([](S x) -> D { return static_cast<D>(x); });
    });
    all["cvt.rn.f32." + to] = pure([](D x) -> float { return static_cast<float>(x); });
    all["cvt.rn.f64." + to] = pure([](D x) -> double { return static_cast<double>(x); });
    add_to_integer<D, float>(all, to + ".f32");
    add_to_integer<D, double>(all, to + ".f64");
  });
  add_whole<float>(all, "f32.f32");
  add_whole<double>(all, "f64.f64");
  add_float16<__half>(all, "f16");
  add_float16<__nv_bfloat16>(all, "bf16");
  all["cvt.f64.f32"] = pure([](float x) -> double { return x; });
  all["cvt.rn.f32.f64"] = pure([](double x) -> float { return static_cast<float>(x); });
  all["cvt.sat.f32.f32"] = pure([](float x) { return saturate(x); });
}

}  // namespace simt::ptx
