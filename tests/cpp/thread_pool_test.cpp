#include "common/cpu/thread_pool.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "common/cpu/lent_cores.h"
#include "test.h"

namespace specbranch {
namespace {

using Ranges = std::set<std::pair<std::int64_t, std::int64_t>>;

template <class F>
void run(std::int64_t begin, std::int64_t end, std::int64_t grain, int num_threads, const F& f) {
  const auto body = [](std::int64_t lo, std::int64_t hi, void* context) {
    (*static_cast<const F*>(context))(lo, hi);
  };
  run_on_own_helpers(begin, end, grain, body, const_cast<F*>(&f), num_threads);
}

Ranges ranges(std::int64_t begin, std::int64_t end, std::int64_t grain, int num_threads) {
  Ranges found;
  std::mutex mutex;
  run(begin, end, grain, num_threads, [&](std::int64_t lo, std::int64_t hi) {
    const std::lock_guard lock(mutex);
    CHECK(found.emplace(lo, hi).second);
  });
  return found;
}

TEST(thread_pool, ranges_cover_everything_once_and_are_no_smaller_than_the_grain) {
  CHECK((ranges(3, 8, 1, 3) == Ranges{{3, 4}, {4, 5}, {5, 6}, {6, 7}, {7, 8}}));
  CHECK((ranges(0, 30, 1, 3) == Ranges{{0, 3},
                                       {3, 6},
                                       {6, 9},
                                       {9, 12},
                                       {12, 15},
                                       {15, 18},
                                       {18, 21},
                                       {21, 24},
                                       {24, 27},
                                       {27, 30}}));
  CHECK((ranges(0, 10, 4, 3) == Ranges{{0, 4}, {4, 8}, {8, 10}}));
  CHECK((ranges(0, 10, 10, 3) == Ranges{{0, 10}}));
  CHECK((ranges(0, 2, 1, 5) == Ranges{{0, 1}, {1, 2}}));
  CHECK((ranges(0, 10, 1, 1) == Ranges{{0, 10}}));
  CHECK(ranges(4, 4, 1, 3).empty());
}

TEST(thread_pool, helpers_take_part_again_and_again_awake_or_asleep) {
  std::set<std::thread::id> threads;
  std::mutex mutex;
  std::int64_t total = 0, rounds = 0;
  // On two busy cores helpers may come late for a long time.
  const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  const auto alone = [&] {
    return threads.size() < 2 && std::chrono::steady_clock::now() < patience;
  };
  for (; rounds < 3000 || alone(); ++rounds) {
    if (rounds % 500 == 499) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    std::atomic<std::int64_t> sum = 0;
    run(0, 30, 1, 3, [&](std::int64_t lo, std::int64_t hi) {
      for (std::int64_t i = lo; i < hi; ++i) sum += i;
      const std::lock_guard lock(mutex);
      threads.insert(std::this_thread::get_id());
    });
    total += sum;
  }
  CHECK(total == rounds * 435);
  CHECK(threads.size() >= 2);
  CHECK(threads.size() <= 3);
}

TEST(thread_pool, threads_have_helpers_of_their_own_and_helpers_have_none) {
  std::vector<std::thread> callers;
  std::atomic<std::int64_t> sum = 0;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&] {
      for (int round = 0; round < 200; ++round) {
        run(0, 8, 1, 2, [&](std::int64_t lo, std::int64_t hi) {
          const std::thread::id outer = std::this_thread::get_id();
          run(lo, hi, 1, 2, [&](std::int64_t from, std::int64_t to) {
            CHECK(std::this_thread::get_id() == outer);
            sum += to - from;
          });
        });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(sum == 4 * 200 * 8);
}

TEST(thread_pool, lent_cores_are_used_while_no_other_thread_is_at_work) {
  const auto parts = [] {
    const AtWork at_work;
    return ranges(0, 100, 1, 1).size();
  };
  std::thread([&] {
    CHECK(parts() == 1);
    lend_cores({0, 0});
    CHECK(parts() == 12);
    {
      const AtWork outer;
      CHECK(parts() == 12);
      std::thread([&] { CHECK(parts() == 1); }).join();
    }
    std::atomic<int> stage = 0;
    std::thread other([&] {
      const AtWork at_work;
      stage = 1;
      while (stage != 2) std::this_thread::yield();
    });
    while (stage != 1) std::this_thread::yield();
    CHECK(parts() == 1);
    stage = 2;
    other.join();
    CHECK(parts() == 12);
  }).join();
}

}  // namespace
}  // namespace specbranch
