#pragma once

// Stands in for the launcher: every thread of the grid runs here, before the call returns.

#include <cuda_runtime.h>

#include <cstddef>
#include <type_traits>

#include "common/cuda_stream.h"
#include "scheduler.hpp"

namespace specbranch {

struct LaunchShape {
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes = 0;
};

template <class... Params>
void launch_kernel(const char* /*op*/, void (*kernel)(Params...), const LaunchShape& shape,
                   CudaStream /*stream*/, const std::type_identity_t<Params>&... params) {
  const auto thread = [&]() __attribute__((no_sanitize("thread"))) { kernel(params...); };
  simt::run_grid(shape.grid, shape.block, shape.shared_bytes, thread);
}

}  // namespace specbranch
