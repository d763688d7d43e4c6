#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace specbranch {

/// The error of every op for a bad argument; Python sees it as ValueError.
/// E.g. "branch_attention: block_table: expected int32 [B=2, M], got int64 [2, 4]".
[[noreturn]] inline void throw_bad_argument(std::string_view op, std::string_view argument,
                                            std::string_view expected, std::string_view got) {
  std::string text;
  text.append(op).append(": ").append(argument);
  text.append(": expected ").append(expected).append(", got ").append(got);
  throw std::invalid_argument(text);
}

}  // namespace specbranch
