#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "common/parallel.h"

namespace specbranch {

/// Calls f(item) for each item of [0, num_items), on at most max_workers threads that each take
/// the next one when they are free: for items of unequal cost. f must not throw.
template <class F>
void for_each_item(std::int64_t num_items, std::int64_t max_workers, const F& f) {
  const std::int64_t workers = std::min<std::int64_t>({num_threads(), num_items, max_workers});
  std::atomic<std::int64_t> next{0};
  parallel_for(0, workers, 1, [&](std::int64_t /*lo*/, std::int64_t /*hi*/) {
    for (std::int64_t item = next++; item < num_items; item = next++) f(item);
  });
}

}  // namespace specbranch
