#include "common/cpu/thread_pool.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <memory>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace specbranch {
namespace {

using Clock = std::chrono::steady_clock;

// Longer than the gaps between the parallel parts of a forward.
constexpr auto kStayAwake = std::chrono::microseconds(50);
constexpr int kPauses = 32;  // before others are given the core

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

/// The pool of the calling thread. A forked child has none of its parent's helpers.
ThreadPool& own_pool(int num_threads) {
  thread_local std::unique_ptr<ThreadPool> pool;
  thread_local pid_t owner = 0;
  if (pool != nullptr && owner != getpid()) static_cast<void>(pool.release());
  if (pool == nullptr || pool->num_threads() != num_threads) {
    pool.reset();
    pool = std::make_unique<ThreadPool>(num_threads);
    owner = getpid();
  }
  return *pool;
}

}  // namespace

ThreadPool::ThreadPool(int num_threads) {
  for (int part = 1; part < num_threads; ++part) {
    helpers_.emplace_back([this, part] { help(part); });
  }
}

ThreadPool::~ThreadPool() {
  announce({});
  for (std::thread& helper : helpers_) helper.join();
}

void ThreadPool::run(std::int64_t begin, std::int64_t end, std::int64_t chunk,
                     ParallelBackend::Body body, void* context) {
  busy_.store(static_cast<std::uint32_t>(helpers_.size()), std::memory_order_relaxed);
  announce({begin, end, chunk, body, context});
  job_.run_part(0);
  while (const std::uint32_t busy = busy_.load(std::memory_order_acquire)) {
    await_change(busy_, busy);
  }
}

void ThreadPool::announce(const Job& job) {
  job_ = job;
  announced_.fetch_add(1, std::memory_order_release);
  announced_.notify_all();
}

void ThreadPool::help(int part) {
  for (std::uint32_t seen = 0;; ++seen) {
    await_change(announced_, seen);
    if (job_.body == nullptr) return;
    job_.run_part(part);
    busy_.fetch_sub(1, std::memory_order_release);
    busy_.notify_one();
  }
}

void ThreadPool::Job::run_part(int part) const {
  const std::int64_t first = begin + part * chunk;
  const std::int64_t last = std::min(first + chunk, end);
  if (first >= last) return;
  inside_part = true;
  body(first, last, context);
  inside_part = false;
}

void run_on_own_helpers(std::int64_t begin, std::int64_t end, std::int64_t grain,
                        ParallelBackend::Body body, void* context, int num_threads) {
  const std::int64_t count = end - begin;
  if (count <= 0) return;
  const std::int64_t chunk = std::max((count + num_threads - 1) / num_threads, grain);
  if (chunk >= count || inside_part) {
    body(begin, end, context);
  } else {
    own_pool(num_threads).run(begin, end, chunk, body, context);
  }
}

}  // namespace specbranch
