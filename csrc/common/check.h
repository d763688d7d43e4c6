#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace specbranch {

/// "WHAT: expected EXPECTED, got GOT"; Python sees it as ValueError.
[[noreturn]] inline void throw_unexpected(std::string_view what, std::string_view expected,
                                          std::string_view got) {
  std::string text;
  text.append(what).append(": expected ").append(expected).append(", got ").append(got);
  throw std::invalid_argument(text);
}

/// The error of every op for a bad argument.
/// E.g. "branch_attention: block_table: expected int32 [B=2, M], got int64 [2, 4]".
[[noreturn]] inline void throw_bad_argument(std::string_view op, std::string_view argument,
                                            std::string_view expected, std::string_view got) {
  std::string what;
  what.append(op).append(": ").append(argument);
  throw_unexpected(what, expected, got);
}

}  // namespace specbranch
