#pragma once

#include <cstdint>

namespace specbranch {

/// The thread pool that CPU kernels run on. Kernels know no framework: whoever loads them may
/// install its pool, and without one everything runs on the calling thread.
struct ParallelBackend {
  using Body = void (*)(std::int64_t begin, std::int64_t end, void* context);

  /// Calls body over disjoint ranges that cover [begin, end), each of at least `grain` iterations.
  void (*parallel_for)(std::int64_t begin, std::int64_t end, std::int64_t grain, Body body,
                       void* context);
  int (*num_threads)();
};

void set_parallel_backend(const ParallelBackend& backend);
const ParallelBackend& parallel_backend();

/// Threads that a parallel_for started here may use.
inline int num_threads() { return parallel_backend().num_threads(); }

/// Calls f(lo, hi) over disjoint ranges covering [begin, end). f must not throw.
template <class F>
void parallel_for(std::int64_t begin, std::int64_t end, std::int64_t grain, const F& f) {
  const auto body = [](std::int64_t lo, std::int64_t hi, void* context) {
    (*static_cast<const F*>(context))(lo, hi);
  };
  parallel_backend().parallel_for(begin, end, grain, body, const_cast<F*>(&f));
}

}  // namespace specbranch
