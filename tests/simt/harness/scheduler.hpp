#pragma once

#include <functional>
#include <string>

#include "machine.hpp"

namespace simt {

/// Runs body as every thread of the grid, in the order of `schedule`. Throws std::runtime_error
/// with what fail() was told.
void run_grid(dim3 grid, dim3 block, std::size_t shared_bytes, std::function<void()> body);

}  // namespace simt
