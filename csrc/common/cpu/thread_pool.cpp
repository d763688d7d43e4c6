#include "common/cpu/thread_pool.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "common/cpu/lent_cores.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace specbranch {
namespace {

using Clock = std::chrono::steady_clock;

// Longer than the gaps between the parallel parts of a forward.
constexpr auto kStayAwake = std::chrono::microseconds(50);
constexpr int kPauses = 32;  // before others are given the core
constexpr int kPartsAThread = 4;

thread_local bool inside_part = false;

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

/// Returns once `value` is no longer `old`: at first awake, then asleep.
void await_change(const std::atomic<std::uint32_t>& value, std::uint32_t old) {
  const auto tired = Clock::now() + kStayAwake;
  do {
    for (int i = 0; i < kPauses; ++i) {
      if (value.load(std::memory_order_acquire) != old) return;
      pause();
    }
    std::this_thread::yield();
  } while (Clock::now() < tired);
  value.wait(old, std::memory_order_acquire);
}

/// The calling thread's, with the given cores or with none. A forked child has none of its parent's
/// helpers.
ThreadPool& own_pool(int num_threads, std::span<const int> lent) {
  thread_local std::unique_ptr<ThreadPool> pools[2];
  thread_local pid_t owner = 0;
  if (owner != getpid()) {
    for (auto& pool : pools) static_cast<void>(pool.release());
    owner = getpid();
  }
  std::unique_ptr<ThreadPool>& pool = pools[lent.empty() ? 0 : 1];
  const int wanted = num_threads + static_cast<int>(lent.size());
  if (pool == nullptr || pool->num_threads() != wanted) {
    pool.reset();
    pool = std::make_unique<ThreadPool>(num_threads, lent);
  }
  return *pool;
}

/// Keeps the calling thread on a core, if it may be there.
void stay_on(int core) {
#if defined(__linux__)
  cpu_set_t cores;
  CPU_ZERO(&cores);
  CPU_SET(core, &cores);
  sched_setaffinity(0, sizeof(cores), &cores);
#endif
}

}  // namespace

ThreadPool::ThreadPool(int num_threads, std::span<const int> lent) {
  for (int i = 1; i < num_threads; ++i) helpers_.emplace_back([this] { help(); });
  for (const int core : lent) {
    helpers_.emplace_back([this, core] {
      stay_on(core);
      help();
    });
  }
}

ThreadPool::~ThreadPool() {
  closing_.store(true, std::memory_order_relaxed);
  announced_.fetch_add(1, std::memory_order_release);
  announced_.notify_all();
  for (std::thread& helper : helpers_) helper.join();
}

void ThreadPool::run(std::int64_t begin, std::int64_t end, std::int64_t chunk,
                     ParallelBackend::Body body, void* context) {
  const std::uint64_t parts = (end - begin + chunk - 1) / chunk;
  const std::uint32_t number = announced_.load(std::memory_order_relaxed) + 1;
  job_ = {begin, end, chunk, body, context};
  unfinished_.store(static_cast<std::uint32_t>(parts), std::memory_order_relaxed);
  untaken_.store(std::uint64_t{number} << 32 | parts, std::memory_order_release);
  announced_.store(number, std::memory_order_release);
  announced_.notify_all();
  take_parts();
  while (const std::uint32_t unfinished = unfinished_.load(std::memory_order_acquire)) {
    await_change(unfinished_, unfinished);
  }
}

void ThreadPool::help() {
  std::uint32_t seen = 0;
  while (true) {
    await_change(announced_, seen);
    seen = announced_.load(std::memory_order_acquire);
    if (closing_.load(std::memory_order_relaxed)) return;
    take_parts();
  }
}

void ThreadPool::take_parts() {
  std::uint64_t untaken = untaken_.load(std::memory_order_acquire);
  while (const auto parts = static_cast<std::uint32_t>(untaken)) {
    if (!untaken_.compare_exchange_weak(untaken, untaken - 1, std::memory_order_acquire)) continue;
    job_.run_part(parts - 1);
    unfinished_.fetch_sub(1, std::memory_order_release);
    unfinished_.notify_one();
    untaken = untaken_.load(std::memory_order_acquire);
  }
}

void ThreadPool::Job::run_part(std::int64_t part) const {
  const std::int64_t first = begin + part * chunk;
  inside_part = true;
  body(first, std::min(first + chunk, end), context);
  inside_part = false;
}

void run_on_own_helpers(std::int64_t begin, std::int64_t end, std::int64_t grain,
                        ParallelBackend::Body body, void* context, int num_threads) {
  const std::int64_t count = end - begin;
  if (count <= 0) return;
  const std::span<const int> lent = lent_cores();
  const int threads = num_threads + static_cast<int>(lent.size());
  const std::int64_t parts = threads == 1 ? 1 : kPartsAThread * threads;
  const std::int64_t chunk = std::max((count + parts - 1) / parts, grain);
  if (chunk >= count || inside_part) {
    body(begin, end, context);
  } else {
    own_pool(num_threads, lent).run(begin, end, chunk, body, context);
  }
}

}  // namespace specbranch
