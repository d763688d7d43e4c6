#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "common/cpu/parallel.h"

namespace specbranch {

/// Calls f(begin, end) over runs of items that cover [0, num_items), on at most max_workers threads
/// that each take the next run when they are free. A run is about half of a thread's share of what
/// is left, so runs start long and all threads finish together; in whole units of `unit` items as
/// long as it has one. f must not throw.
template <class F>
void for_each_run(std::int64_t num_items, std::int64_t unit, std::int64_t max_workers, const F& f) {
  const std::int64_t workers = std::min<std::int64_t>({num_threads(), num_items, max_workers});
  std::atomic<std::int64_t> next{0};
  parallel_for(0, workers, 1, [&](std::int64_t /*lo*/, std::int64_t /*hi*/) {
    for (std::int64_t begin = next; begin < num_items;) {
      const std::int64_t part = std::max<std::int64_t>((num_items - begin) / (2 * workers - 1), 1);
      const std::int64_t end = begin + (part < unit ? part : part - part % unit);
      if (!next.compare_exchange_weak(begin, end)) continue;
      f(begin, end);
      begin = next;
    }
  });
}

}  // namespace specbranch
