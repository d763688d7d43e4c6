#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "instruction.hpp"
#include "reader.hpp"

namespace simt::ptx {

/// An instruction by the names of its operands. An address is two: base and offset.
struct Draft {
  Meaning meaning{};
  std::string guard;  // a predicate, or empty
  bool negated = false;
  std::vector<std::string> operands;
  std::string_view label;  // of a branch
  Location where;
  int block = 0;  // instructions of one run one after the other
};

struct Drafts {
  std::vector<Draft> all;
  std::map<std::string_view, std::size_t> labels;  // the instructions that they stand before
};

/// Throws std::runtime_error where an instruction is not known, naming it.
Drafts make_drafts(const Entry& entry);

}  // namespace simt::ptx
