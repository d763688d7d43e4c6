#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "draft.hpp"

namespace simt::ptx {

/// Gives each operand a slot of the thread. PTX has a register for every value; those that one
/// block alone mentions share slots, or a thread would need hundreds of kilobytes.
class Slots {
 public:
  explicit Slots(const std::vector<Draft>& drafts);

  /// For the operands of the n-th instruction, in the order of the instructions.
  std::uint32_t of_register(const std::string& name);
  /// After the n-th instruction: what it mentioned last is free.
  void end_instruction(std::size_t n);

  std::uint32_t of_constant(std::uint64_t value);
  /// A slot of its own for anything else.
  std::uint32_t add(std::uint64_t value);

  /// What the slots hold at first: registers have a NaN that is no address.
  const std::vector<std::uint64_t>& initial() const { return initial_; }

 private:
  struct Use {
    int block;
    bool in_one_block;
    std::size_t last;
  };
  void note(const std::string& name, int block, std::size_t n);
  std::uint32_t free_slot();

  std::unordered_map<std::string, Use> uses_;
  std::unordered_map<std::string, std::uint32_t> registers_;
  std::unordered_map<std::size_t, std::vector<std::string>> ending_;  // by instruction
  std::unordered_map<std::uint64_t, std::uint32_t> constants_;
  std::vector<std::uint32_t> free_;
  std::vector<std::uint64_t> initial_;
};

}  // namespace simt::ptx
