#pragma once

#include <atomic>
#include <cstdint>
#include <span>
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
  /// num_threads: helpers that inherit the cores of the calling thread, and that thread itself.
  /// lent: cores that have a helper each beside them.
  explicit ThreadPool(int num_threads, std::span<const int> lent = {});
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(helpers_.size()) + 1; }

  /// Calls body over ranges of `chunk` that cover [begin, end). Whoever is awake takes the next
  /// one: a helper that has no core now keeps nobody waiting.
  void run(std::int64_t begin, std::int64_t end, std::int64_t chunk, ParallelBackend::Body body,
           void* context);

 private:
  struct Job {
    std::int64_t begin = 0;
    std::int64_t end = 0;
    std::int64_t chunk = 0;
    ParallelBackend::Body body = nullptr;
    void* context = nullptr;

    void run_part(std::int64_t part) const;
  };

  void help();
  /// Takes parts of the latest job until none is left.
  void take_parts();

  Job job_;                                   // stays while a part of it runs
  std::atomic<std::uint64_t> untaken_{0};     // the job's number above, how many of its parts below
  std::atomic<std::uint32_t> announced_{0};   // the number of the latest job
  std::atomic<std::uint32_t> unfinished_{0};  // its parts
  std::atomic<bool> closing_{false};
  std::vector<std::thread> helpers_;
};

/// ParallelBackend::parallel_for on helpers of the calling thread's own, `num_threads` with it, and
/// on those of lent cores (see lent_cores.h).
/// What a helper calls runs on that helper alone.
void run_on_own_helpers(std::int64_t begin, std::int64_t end, std::int64_t grain,
                        ParallelBackend::Body body, void* context, int num_threads);

}  // namespace specbranch
