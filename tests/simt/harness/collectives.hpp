#pragma once

#include <cstddef>
#include <cstdint>

#include "location.hpp"
#include "machine.hpp"

namespace simt {

/// A barrier of the block. Returns for how many threads predicate was not zero.
int barrier(int predicate, const Location& where);

/// Waits for all lanes of the mask; then `combine` sees their arguments, once.
void collective(unsigned mask, Combine combine, void* argument, const Location& where);

/// __syncwarp: a collective that orders the memory accesses of the warp.
void sync_warp(unsigned mask, const Location& where);

/// Every lane gets the bytes of lane `source`; a source outside the mask gives NaN. Up to 8 bytes.
void shuffle(unsigned mask, void* value, std::size_t bytes, int source, const Location& where);

unsigned ballot(unsigned mask, bool predicate, const Location& where);

enum class Reduction : std::uint8_t { kAdd, kMax, kMin };
unsigned reduce(unsigned mask, unsigned value, Reduction reduction, const Location& where);

/// For a thread that returns from the kernel: nobody may be waiting for it.
void end_thread();

/// Of the running thread.
int lane_id();

}  // namespace simt
