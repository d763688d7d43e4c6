#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "location.hpp"

// PTX as nvcc emits it, taken apart; nothing here knows what an instruction means.
namespace simt::ptx {

/// "{", "}", a label with its colon, or what stands before a semicolon.
struct Statement {
  std::string_view text;
  Location where;  // of the source that it was made of; the column is the line of the PTX
};

/// A parameter of a kernel, or a variable in shared memory; of 0 bytes if the launch decides.
struct Variable {
  std::string name;
  std::size_t bytes = 0;
  std::size_t offset = 0;  // of a parameter
};

struct Entry {
  std::string name;
  std::vector<Variable> parameters;
  std::size_t parameter_bytes = 0;
  unsigned max_threads = 1024;
  std::vector<Statement> body;
  std::vector<Variable> shared;  // of the module and of the kernel
};

/// The kernel of that name. The text must outlive it. Throws std::runtime_error.
Entry read_entry(std::string_view module, std::string_view name);

/// The parts of "a, {b, c}, [d+4]": commas within brackets do not part.
std::vector<std::string_view> split(std::string_view operands);

std::string_view trim(std::string_view text);

}  // namespace simt::ptx
