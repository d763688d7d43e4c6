#pragma once

#include <span>

namespace specbranch {

struct Op {
  const char* schema;  // "name(arguments) -> results"
  const char* doc;     // what Python's help() says of it
};

/// Every op of the library.
std::span<const Op> all_ops();

}  // namespace specbranch
