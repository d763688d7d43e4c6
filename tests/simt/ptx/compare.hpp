#pragma once

#include "instruction.hpp"

namespace simt::ptx {

/// setp.NAME.TYPE, alone and joined with another predicate.
template <class T, class F>
void add_comparison(Meanings& all, const std::string& name, const std::string& type, F /*f*/) {
  const std::string setp = "setp." + name;
  all[setp + "." + type] = pure([](T a, T b) -> bool { return F{}(a, b); });
  all[setp + ".and." + type] = pure([](T a, T b, bool c) -> bool { return F{}(a, b) && c; });
  all[setp + ".or." + type] = pure([](T a, T b, bool c) -> bool { return F{}(a, b) || c; });
}

/// Of floats: false where one is a NaN.
template <class T>
void add_comparisons(Meanings& all, const std::string& type) {
  add_comparison<T>(all, "eq", type, [](T a, T b) { return a == b; });
  add_comparison<T>(all, "ne", type, [](T a, T b) { return a < b || a > b; });
  add_comparison<T>(all, "lt", type, [](T a, T b) { return a < b; });
  add_comparison<T>(all, "le", type, [](T a, T b) { return a <= b; });
  add_comparison<T>(all, "gt", type, [](T a, T b) { return a > b; });
  add_comparison<T>(all, "ge", type, [](T a, T b) { return a >= b; });
}

}  // namespace simt::ptx
