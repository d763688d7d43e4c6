#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "instruction.hpp"
#include "reader.hpp"

namespace simt::ptx {

/// A slot that a thread fills as it starts.
struct Given {
  std::uint32_t slot;
  std::uint64_t (*value)(const Variable& of);
  Variable of;  // nothing, for a special register
};

/// A kernel, ready to run.
struct Program {
  std::vector<Instruction> code;
  std::vector<std::uint64_t> slots;  // at first
  std::vector<Given> given;
  std::vector<Variable> parameters;
  std::size_t parameter_bytes = 0;
  unsigned max_threads = 0;

  /// As the running thread, to its end.
  void run() const;
};

/// The kernel of that name. Throws std::runtime_error where an instruction is not known.
std::unique_ptr<const Program> make_program(std::string_view module, std::string_view name);

}  // namespace simt::ptx
