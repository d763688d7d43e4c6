// Bits and predicates.

#include <bit>

#include "compare.hpp"
#include "instruction.hpp"

namespace simt::ptx {
namespace {

using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

template <class T>
T shift_left(T a, u32 bits) {
  return bits >= 8 * sizeof(T) ? T{0} : static_cast<T>(a << bits);
}

/// The low `length` bits of `field` in place of those of `into` from `position` on.
template <class T>
T insert(T field, T into, u32 position, u32 length) {
  position &= 255;
  length &= 255;
  if (position >= 8 * sizeof(T) || length == 0) return into;
  const T mask = (length >= 8 * sizeof(T) ? ~T{0} : (T{1} << length) - 1) << position;
  return (into & ~mask) | (field << position & mask);
}

u32 extract(u32 a, u32 position, u32 length) {
  position &= 255;
  length &= 255;
  if (position > 31) return 0;
  return a >> position & (length > 31 ? ~0u : (1u << length) - 1);
}

u32 reverse(u32 a) {
  u32 reversed = 0;
  for (int bit = 0; bit < 32; ++bit) reversed |= (a >> bit & 1) << (31 - bit);
  return reversed;
}

/// Any function of three bits: bit abc of the table.
u32 look_up(u32 a, u32 b, u32 c, u32 table) {
  u32 result = 0;
  for (int bit = 0; bit < 32; ++bit) {
    const u32 row = (a >> bit & 1) << 2 | (b >> bit & 1) << 1 | (c >> bit & 1);
    result |= (table >> row & 1) << bit;
  }
  return result;
}

/// Four bytes of eight, or their signs.
u32 permute(u32 a, u32 b, u32 selector) {
  const u64 bytes = u64{b} << 32 | a;
  u32 result = 0;
  for (int i = 0; i < 4; ++i) {
    const u32 choice = selector >> (4 * i) & 15;
    u32 byte = bytes >> (8 * (choice & 7)) & 255;
    if ((choice & 8) != 0) byte = (byte & 128) != 0 ? 255 : 0;
    result |= byte << (8 * i);
  }
  return result;
}

template <class T>
void add_logic(Meanings& all, const std::string& type) {
  all["and." + type] = pure([](T a, T b) -> T { return a & b; });
  all["or." + type] = pure([](T a, T b) -> T { return a | b; });
  all["xor." + type] = pure([](T a, T b) -> T { return a ^ b; });
}

template <class T>
void add_words(Meanings& all, const std::string& type) {
  add_logic<T>(all, type);
  all["not." + type] = pure([](T a) -> T { return ~a; });
  add_comparisons<T>(all, type);
  all["shl." + type] = pure([](T a, u32 bits) { return shift_left(a, bits); });
  all["shr." + type] = pure([](T a, u32 bits) -> T { return bits < 8 * sizeof a ? a >> bits : 0; });
  if constexpr (sizeof(T) >= sizeof(u32)) {
    all["popc." + type] = pure([](T a) -> u32 { return std::popcount(a); });
    all["clz." + type] = pure([](T a) -> u32 { return std::countl_zero(a); });
    all["bfi." + type] =
        pure([](T a, T b, u32 position, u32 length) { return insert(a, b, position, length); });
  }
}

}  // namespace

void add_bits(Meanings& all) {
  add_logic<bool>(all, "pred");
  all["not.pred"] = pure([](bool a) { return !a; });
  add_words<u16>(all, "b16");
  add_words<u32>(all, "b32");
  add_words<u64>(all, "b64");
  all["bfe.u32"] =
      pure([](u32 a, u32 position, u32 length) { return extract(a, position, length); });
  all["brev.b32"] = pure([](u32 a) { return reverse(a); });
  all["bfind.shiftamt.u32"] = pure([](u32 a) -> u32 { return a == 0 ? ~0u : std::countl_zero(a); });
  all["bfind.u32"] = pure([](u32 a) -> u32 { return a == 0 ? ~0u : 31 - std::countl_zero(a); });
  all["lop3.b32"] = pure([](u32 a, u32 b, u32 c, u32 table) { return look_up(a, b, c, table); });
  all["prmt.b32"] = pure([](u32 a, u32 b, u32 selector) { return permute(a, b, selector); });
  all["shf.l.wrap.b32"] =
      pure([](u32 a, u32 b, u32 bits) -> u32 { return (u64{b} << 32 | a) << (bits & 31) >> 32; });
  all["shf.r.wrap.b32"] =
      pure([](u32 a, u32 b, u32 bits) -> u32 { return (u64{b} << 32 | a) >> (bits & 31); });
}

}  // namespace simt::ptx
