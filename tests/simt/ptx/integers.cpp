// Arithmetic of integers, as the PTX ISA has it: wrapping, and defined for every operand.

#include <algorithm>
#include <limits>

#include "compare.hpp"
#include "instruction.hpp"

namespace simt::ptx {
namespace {

using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using s16 = std::int16_t;
using s32 = std::int32_t;
using s64 = std::int64_t;
__extension__ using s128 = __int128;
__extension__ using u128 = unsigned __int128;

template <class T>
constexpr bool overflows(T a, T b) {
  return std::is_signed_v<T> && a == std::numeric_limits<T>::min() && b == static_cast<T>(-1);
}

template <class T>
T divide(T a, T b) {
  if (b == 0) return static_cast<T>(-1);
  return overflows(a, b) ? a : static_cast<T>(a / b);
}

template <class T>
T remainder(T a, T b) {
  if (b == 0) return a;
  return overflows(a, b) ? T{0} : static_cast<T>(a % b);
}

template <class T>
T shift_right(T a, u32 bits) {
  constexpr u32 kLast = 8 * sizeof(T) - 1;
  if (bits > kLast) return std::is_signed_v<T> ? static_cast<T>(a >> kLast) : T{0};
  return static_cast<T>(a >> bits);
}

template <class T>
T multiply_high(T a, T b) {
  using Wide = std::conditional_t<std::is_signed_v<T>, s128, u128>;
  return static_cast<T>(static_cast<Wide>(a) * static_cast<Wide>(b) >> (8 * sizeof(T)));
}

template <class T>
void add_integer(Meanings& all, const std::string& type) {
  all["add." + type] = pure([](T a, T b) -> T { return a + b; });
  all["sub." + type] = pure([](T a, T b) -> T { return a - b; });
  all["mul.lo." + type] = pure([](T a, T b) -> T { return a * b; });
  all["mul.hi." + type] = pure([](T a, T b) { return multiply_high(a, b); });
  all["mad.lo." + type] = pure([](T a, T b, T c) -> T { return a * b + c; });
  all["div." + type] = pure([](T a, T b) { return divide(a, b); });
  all["rem." + type] = pure([](T a, T b) { return remainder(a, b); });
  all["min." + type] = pure([](T a, T b) -> T { return std::min(a, b); });
  all["max." + type] = pure([](T a, T b) -> T { return std::max(a, b); });
  all["neg." + type] = pure([](T a) -> T { return -a; });
  if constexpr (std::is_signed_v<T>) {
    all["abs." + type] = pure([](T a) -> T { return a < 0 ? -a : a; });
  }
  all["shr." + type] = pure([](T a, u32 bits) { return shift_right(a, bits); });
  add_comparisons<T>(all, type);
}

/// With results of twice the width.
template <class T, class Wide>
void add_wide(Meanings& all, const std::string& type) {
  all["mul.wide." + type] = pure([](T a, T b) -> Wide { return Wide{a} * Wide{b}; });
  all["mad.wide." + type] = pure([](T a, T b, Wide c) -> Wide { return Wide{a} * Wide{b} + c; });
}

}  // namespace

void add_integers(Meanings& all) {
  add_integer<u16>(all, "u16");
  add_integer<s16>(all, "s16");
  add_integer<u32>(all, "u32");
  add_integer<s32>(all, "s32");
  add_integer<u64>(all, "u64");
  add_integer<s64>(all, "s64");
  add_wide<u16, u32>(all, "u16");
  add_wide<s16, s32>(all, "s16");
  add_wide<u32, u64>(all, "u32");
  add_wide<s32, s64>(all, "s32");
}

}  // namespace simt::ptx
