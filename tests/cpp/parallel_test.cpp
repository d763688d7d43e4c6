#include "common/cpu/parallel.h"

#include <utility>
#include <vector>

#include "common/cpu/work_queue.h"
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

TEST(parallel, runs_cover_all_items_in_whole_units_until_few_are_left) {
  const ParallelBackend serial = parallel_backend();
  set_parallel_backend({.parallel_for = backwards_for, .num_threads = [] { return 2; }});
  using Runs = std::vector<std::pair<std::int64_t, std::int64_t>>;
  Runs runs;
  const auto record = [&](std::int64_t begin, std::int64_t end) { runs.push_back({begin, end}); };
  for_each_run(20, 3, 8, record);
  CHECK(
      (runs ==
       Runs{{0, 6}, {6, 9}, {9, 12}, {12, 14}, {14, 16}, {16, 17}, {17, 18}, {18, 19}, {19, 20}}));
  runs.clear();
  for_each_run(20, 3, 1, record);
  CHECK((runs == Runs{{0, 18}, {18, 20}}));
  set_parallel_backend(serial);
}

}  // namespace
}  // namespace specbranch
