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

/// __threadfence of the running thread.
void fence();

/// The running thread's atomic on an address: publishes if a fence came before it.
void note_atomic(const void* address);

}  // namespace simt
