#pragma once

#include <source_location>
#include <string>
#include <string_view>

namespace simt {

using Location = std::source_location;

inline bool same_place(const Location& a, const Location& b) {
  return a.line() == b.line() && a.column() == b.column() &&
         (a.file_name() == b.file_name() || std::string_view(a.file_name()) == b.file_name());
}

inline std::string text(const Location& where) {
  return std::string(where.file_name()) + ":" + std::to_string(where.line());
}

/// An instruction, in a form that the tests turn into file and line.
std::string text(const void* pc);

}  // namespace simt
