#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>

#include "location.hpp"

// Instructions, decoded: what they do, and which slots of a thread they read and write. A slot
// holds a register, a constant, an address of a variable, or a special register.
namespace simt::ptx {

struct Instruction;

/// A thread under way.
struct Frame {
  std::uint64_t* slots;
  const Instruction* next;  // null when the thread has ended

  template <class T>
  T get(std::uint32_t slot) const {
    T value;
    std::memcpy(&value, &slots[slot], sizeof value);
    return value;
  }

  /// Integers fill their slot by their sign: a wider register takes a narrower value so.
  template <class T>
  void set(std::uint32_t slot, T value) {
    if constexpr (std::is_integral_v<T>) {
      slots[slot] = static_cast<std::uint64_t>(static_cast<std::int64_t>(value));
      if constexpr (std::is_unsigned_v<T>) slots[slot] = static_cast<std::uint64_t>(value);
    } else {
      slots[slot] = 0;
      std::memcpy(&slots[slot], &value, sizeof value);
    }
  }
};

using Handler = void (*)(Frame&, const Instruction&);

inline constexpr int kMaxOperands = 14;  // of mma

struct Instruction {
  Handler run;
  std::uint32_t guard;                            // runs if this slot is not 0,
  bool negated;                                   // or if it is
  std::array<std::uint32_t, kMaxOperands> slots;  // as written; an address has two: base, offset
  const Instruction* target;                      // of a branch
  Location where;
};

struct Meaning {
  Handler run;
  int num_operands;
};

/// By the name of the instruction, without what makes no difference to a simulated device.
using Meanings = std::unordered_map<std::string, Meaning>;

template <class F, class D, class... S>
void run_pure(Frame& frame, const Instruction& i) {
  [&]<std::size_t... k>(std::index_sequence<k...>) {
    frame.set<D>(i.slots[0], F{}(frame.get<S>(i.slots[k + 1])...));
  }(std::index_sequence_for<S...>{});
}

template <class F, class D, class... S>
Meaning pure_as(D (F::*)(S...) const) {
  return {run_pure<F, D, S...>, 1 + static_cast<int>(sizeof...(S))};
}

/// An instruction that computes its first operand from the others, by a function without captures.
template <class F>
Meaning pure(F /*f*/) {
  return pure_as<F>(&F::operator());
}

void add_integers(Meanings& all);
void add_bits(Meanings& all);
void add_floats(Meanings& all);
void add_conversions(Meanings& all);
void add_moves(Meanings& all);
void add_memory(Meanings& all);
void add_collectives(Meanings& all);

/// Where the thread's parameters are.
struct Parameters {
  const std::byte* data = nullptr;
  std::size_t bytes = 0;

  bool contain(std::uintptr_t address) const {
    return address - reinterpret_cast<std::uintptr_t>(data) < bytes;
  }
};
extern Parameters parameters;

}  // namespace simt::ptx
