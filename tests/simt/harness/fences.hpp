#pragma once

#include <cstdint>

#include "machine.hpp"

// Order between blocks: what a block wrote before a barrier, a fence and an atomic is seen by the
// blocks whose later atomic on the same address is followed by a fence.
namespace simt {

/// For the start of a launch: no block has seen anything.
void forget_fences();

/// Whether `block` may rely on what thread `other_thread` of `other_block` did in that epoch.
bool has_seen(const Block& block, int other_block, int other_thread, std::uint32_t epoch);

/// By the running thread. release(): its next atomic publishes; acquire(): it sees what was
/// published where its atomics have been; fence() is __threadfence, which does both.
void release();
void acquire();
void fence();

/// The running thread's atomic on an address.
void note_atomic(const void* address);

/// An atomic that only reads.
void observe(const void* address);

}  // namespace simt
