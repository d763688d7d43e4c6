#pragma once

#include <utility>

// Lists of template arguments, as std::integer_sequence.
namespace specbranch {

/// The first of ascending values that is at least `wanted`, or the last.
template <int... kValues>
constexpr int first_at_least(int wanted, std::integer_sequence<int, kValues...> /*list*/) {
  int chosen = 0;
  ((chosen = chosen < wanted ? kValues : chosen), ...);
  return chosen;
}

/// Calls f<value>() with the value of the list that equals `wanted`.
template <class Value, Value... kValues, class F>
void dispatch(Value wanted, std::integer_sequence<Value, kValues...> /*list*/, const F& f) {
  ((wanted == kValues ? f.template operator()<kValues>() : void()), ...);
}

}  // namespace specbranch
