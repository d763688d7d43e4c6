#pragma once

#include <algorithm>
#include <cstdint>

#include "common/cpu/parallel.h"
#include "common/cpu/vec.h"

namespace specbranch::SPECBRANCH_CPU_NS {

/// Calls f(row) for each row; further threads help where there is enough for them.
template <class F>
void for_each_row(std::int64_t num_rows, std::int64_t width, const F& f) {
  constexpr std::int64_t kElementsWorthAThread = 1 << 15;
  const std::int64_t grain = 1 + kElementsWorthAThread / std::max<std::int64_t>(width, 1);
  parallel_for(0, num_rows, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) f(row);
  });
}

/// Calls f(i, count) for each vector of a row: its first element and how many of its lanes count.
template <class F>
void for_each_vec(std::int64_t width, const F& f) {
  std::int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) f(i, kLanes);
  if (i < width) f(i, width - i);
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
