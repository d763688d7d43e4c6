#pragma once

#include <source_location>
#include <string>
#include <string_view>

namespace simt {

/// A place in the sources, of a call or of an instruction.
struct Location {
  const char* file = "";
  unsigned line = 0;
  unsigned column = 0;

  Location() = default;
  Location(const char* file, unsigned line, unsigned column)
      : file(file), line(line), column(column) {}
  Location(const std::source_location& call)
      : Location(call.file_name(), call.line(), call.column()) {}
};

inline bool same_place(const Location& a, const Location& b) {
  return a.line == b.line && a.column == b.column &&
         (a.file == b.file || std::string_view(a.file) == b.file);
}

inline std::string text(const Location& where) {
  return std::string(where.file) + ":" + std::to_string(where.line);
}

/// An instruction, in a form that the tests turn into file and line.
std::string text(const void* pc);

}  // namespace simt
