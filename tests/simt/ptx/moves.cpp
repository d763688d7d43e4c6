// Between registers; and branches.

#include "instruction.hpp"

namespace simt::ptx {
namespace {

/// mov.b64 d, {a, b}: the first part is the lowest.
template <class Part, int kParts>
void pack(Frame& frame, const Instruction& i) {
  std::uint64_t whole = 0;
  for (int part = 0; part < kParts; ++part) {
    const std::uint64_t bits = frame.get<Part>(i.slots[1 + part]);
    whole |= bits << (8 * sizeof(Part) * part);
  }
  frame.set(i.slots[0], whole);
}

template <class Part, int kParts>
void unpack(Frame& frame, const Instruction& i) {
  const auto whole = frame.get<std::uint64_t>(i.slots[kParts]);
  for (int part = 0; part < kParts; ++part) {
    frame.set(i.slots[part], static_cast<Part>(whole >> (8 * sizeof(Part) * part)));
  }
}

template <class T>
void add_move(Meanings& all, const std::string& type) {
  all["mov." + type] = pure([](T a) -> T { return a; });
  all["selp." + type] = pure([](T a, T b, bool first) -> T { return first ? a : b; });
}

void branch(Frame& frame, const Instruction& i) { frame.next = i.target; }
void end(Frame& frame, const Instruction& /*i*/) { frame.next = nullptr; }

}  // namespace

void add_moves(Meanings& all) {
  add_move<bool>(all, "pred");
  for (const char* type : {"b16", "u16", "s16"}) add_move<std::uint16_t>(all, type);
  for (const char* type : {"b32", "u32", "s32", "f32"}) add_move<std::uint32_t>(all, type);
  for (const char* type : {"b64", "u64", "s64", "f64"}) add_move<std::uint64_t>(all, type);
  all["mov.b64 of 2"] = {pack<std::uint32_t, 2>, 3};
  all["mov.b64 of 4"] = {pack<std::uint16_t, 4>, 5};
  all["mov.b32 of 2"] = {pack<std::uint16_t, 2>, 3};
  all["mov.b64 to 2"] = {unpack<std::uint32_t, 2>, 3};
  all["mov.b64 to 4"] = {unpack<std::uint16_t, 4>, 5};
  all["mov.b32 to 2"] = {unpack<std::uint16_t, 2>, 3};
  // Shared and global memory have the addresses that they have for everybody.
  for (const char* space : {"global", "shared", "param"}) {
    for (const char* to : {"", "to."}) {
      all[std::string("cvta.") + to + space + ".u64"] = all["mov.u64"];
    }
  }
  all["bra"] = {branch, 0};
  all["ret"] = {end, 0};
}

}  // namespace simt::ptx
