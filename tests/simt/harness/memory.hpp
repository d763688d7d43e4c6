#pragma once

#include <cstddef>
#include <cstdint>

#include "transactions.hpp"

// Every access of a kernel to memory passes here: bounds, races, and transactions are checked.
namespace simt {

/// Global memory that kernels may use, from now on.
void add_buffer(void* data, std::size_t bytes, const char* name, bool writable);
void clear_buffers();

/// Whether accesses are counted, from now on. Bounds and races are always checked.
void count_traffic(bool on);

/// For the start of a launch.
void forget_accesses();

/// Checks an access of the running thread, if there is one; pc is the instruction.
void on_access(const void* address, std::size_t bytes, bool is_write, const void* pc);

/// For an atomic: bounds only.
void require_writable(const void* address, std::size_t bytes, const void* pc);
void require_readable(const void* address, std::size_t bytes, const void* pc);

/// A copy's write that lands now, though it was issued and counted before.
void on_arrival(const void* shared, std::size_t bytes, const void* pc);

/// The traffic of the blocks since it was last taken.
void add_traffic(const WarpTraffic& warp);
Traffic take_traffic();

}  // namespace simt
