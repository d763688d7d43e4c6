#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "common/cpu/parallel.h"

namespace specbranch {

/// Helpers of one thread. Between two pieces of work they stay awake for a while: a forward has
/// hundreds of pieces, most of which take less time than a thread takes to wake up.
///
/// OpenMP's teams do so, too, but only while the process has no more OpenMP threads than cores, and
/// one torch operation on a second thread is enough for more.
class ThreadPool {
 public:
  /// num_threads: the helpers and the thread that calls `run`. The helpers inherit the cores of the
  /// calling thread.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(helpers_.size()) + 1; }

  /// Calls body over ranges of `chunk` that cover [begin, end), one for each thread at most.
  void run(std::int64_t begin, std::int64_t end, std::int64_t chunk, ParallelBackend::Body body,
           void* context);

 private:
  struct Job {
    std::int64_t begin = 0;
    std::int64_t end = 0;
    std::int64_t chunk = 0;
    ParallelBackend::Body body = nullptr;  // null: go home
    void* context = nullptr;

    void run_part(int part) const;
  };

  void help(int part);
  void announce(const Job& job);

  Job job_;
  std::atomic<std::uint32_t> announced_{0};  // jobs so far
  std::atomic<std::uint32_t> busy_{0};       // helpers that have not finished the latest
  std::vector<std::thread> helpers_;
};

/// ParallelBackend::parallel_for on helpers of the calling thread's own, `num_threads` with it.
/// What a helper calls runs on that helper alone.
void run_on_own_helpers(std::int64_t begin, std::int64_t end, std::int64_t grain,
                        ParallelBackend::Body body, void* context, int num_threads);

}  // namespace specbranch
