#include "common/parallel.h"

#include <vector>

#include "test.h"

namespace specbranch {
namespace {

// Ranges of `grain` iterations, the last one first.
void backwards_for(std::int64_t begin, std::int64_t end, std::int64_t grain,
                   ParallelBackend::Body body, void* context) {
  std::int64_t hi = end;
  while (hi > begin) {
    const std::int64_t lo = hi - grain > begin ? hi - grain : begin;
    body(lo, hi, context);
    hi = lo;
  }
}

std::vector<std::int64_t> visited(std::int64_t begin, std::int64_t end, std::int64_t grain) {
  std::vector<std::int64_t> order;
  parallel_for(begin, end, grain, [&](std::int64_t lo, std::int64_t hi) {
    for (std::int64_t i = lo; i < hi; ++i) order.push_back(i);
  });
  return order;
}

TEST(parallel, runs_on_the_calling_thread_until_a_pool_is_installed) {
  const ParallelBackend serial = parallel_backend();
  CHECK(num_threads() == 1);
  CHECK((visited(2, 6, 2) == std::vector<std::int64_t>{2, 3, 4, 5}));
  CHECK(visited(3, 3, 1).empty());

  set_parallel_backend({.parallel_for = backwards_for, .num_threads = [] { return 5; }});
  CHECK(num_threads() == 5);
  CHECK((visited(2, 6, 2) == std::vector<std::int64_t>{4, 5, 2, 3}));
  set_parallel_backend(serial);
}

}  // namespace
}  // namespace specbranch
