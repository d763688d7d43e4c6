#include "common/cpu/parallel.h"

namespace specbranch {
namespace {

void serial_for(std::int64_t begin, std::int64_t end, std::int64_t /*grain*/,
                ParallelBackend::Body body, void* context) {
  if (begin < end) body(begin, end, context);
}

ParallelBackend& installed_backend() {
  static ParallelBackend backend{.parallel_for = serial_for, .num_threads = [] { return 1; }};
  return backend;
}

}  // namespace

void set_parallel_backend(const ParallelBackend& backend) { installed_backend() = backend; }

const ParallelBackend& parallel_backend() { return installed_backend(); }

}  // namespace specbranch
