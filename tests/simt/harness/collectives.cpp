#include "collectives.hpp"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>

#include "async_copy.hpp"
#include "memory.hpp"

namespace simt {
namespace {

bool in(unsigned mask, int lane) { return (mask >> lane & 1u) != 0; }

void require_same_barrier(const Block& block, const Thread& me) {
  if (block.num_at_barrier == 0) return;
  const Thread& first = *block.first_at_barrier;
  if (same_place(first.where, me.where)) return;
  fail("divergent barrier: waits at " + text(me.where) + ", while " + name(block, first) +
       " waits at " + text(first.where));
}

void open_barrier(Block& block) {
  int predicates = 0;
  for (int id = 0; id < block.num_threads; ++id) predicates += block.threads[id]->predicate != 0;
  for (int id = 0; id < block.num_threads; ++id) {
    block.threads[id]->predicates = predicates;
    block.threads[id]->state = Thread::State::kReady;
  }
  block.num_at_barrier = 0;
  ++block.epoch;
}

/// Those that wait already are at the same collective, so one of them is enough to ask.
void require_same_collective(Block& block, const Thread& me) {
  const unsigned waiting = me.mask & block.warps[me.warp].waiting;
  if (waiting == 0) return;
  const Thread& other = block.lane(me.warp, std::countr_zero(waiting));
  if (other.combine == me.combine && other.mask == me.mask && same_place(other.where, me.where)) {
    return;
  }
  fail("divergent warp collective: waits at " + text(me.where) + ", while " + name(block, other) +
       " waits at " + text(other.where));
}

void finish_collective(Block& block, const Thread& last) {
  void* arguments[kWarpSize] = {};
  for (int lane = 0; lane < kWarpSize; ++lane) {
    if (!in(last.mask, lane)) continue;
    Thread& thread = block.lane(last.warp, lane);
    arguments[lane] = thread.argument;
    thread.state = Thread::State::kReady;
  }
  block.warps[last.warp].waiting &= ~last.mask;
  last.combine(arguments);
}

struct Shuffle {
  int source;
  std::uint64_t in;
  std::uint64_t out;
};

void combine_shuffles(void* const* arguments) {
  for (int lane = 0; lane < kWarpSize; ++lane) {
    auto* mine = static_cast<Shuffle*>(arguments[lane]);
    if (mine == nullptr) continue;
    const auto* from = static_cast<const Shuffle*>(arguments[mine->source]);
    mine->out = from == nullptr ? ~std::uint64_t{0} : from->in;
  }
}

struct Ballot {
  bool predicate;
  unsigned votes;
};

void combine_ballots(void* const* arguments) {
  unsigned votes = 0;
  for (int lane = 0; lane < kWarpSize; ++lane) {
    const auto* ballot = static_cast<const Ballot*>(arguments[lane]);
    if (ballot != nullptr && ballot->predicate) votes |= 1u << lane;
  }
  for (int lane = 0; lane < kWarpSize; ++lane) {
    if (arguments[lane] != nullptr) static_cast<Ballot*>(arguments[lane])->votes = votes;
  }
}

struct Reduce {
  Reduction reduction;
  unsigned value;
};

unsigned apply(Reduction reduction, unsigned a, unsigned b) {
  switch (reduction) {
    case Reduction::kAdd:
      return a + b;
    case Reduction::kMax:
      return std::max(a, b);
    case Reduction::kMin:
      return std::min(a, b);
  }
  __builtin_unreachable();
}

void combine_reductions(void* const* arguments) {
  bool any = false;
  unsigned total = 0;
  for (int lane = 0; lane < kWarpSize; ++lane) {
    const auto* mine = static_cast<const Reduce*>(arguments[lane]);
    if (mine == nullptr) continue;
    total = any ? apply(mine->reduction, total, mine->value) : mine->value;
    any = true;
  }
  for (int lane = 0; lane < kWarpSize; ++lane) {
    if (arguments[lane] != nullptr) static_cast<Reduce*>(arguments[lane])->value = total;
  }
}

void open_warp_epoch(void* const* /*arguments*/) {
  ++running.block->warps[running.thread->warp].epoch;
}

[[noreturn]] void forbid_return(const Block& block, const Thread& other) {
  fail("returns while " + name(block, other) + " waits at " + text(other.where));
}

}  // namespace

int barrier(int predicate, const Location& where) {
  Block& block = *running.block;
  Thread& me = *running.thread;
  if (block.num_live < block.num_threads) {
    fail("barrier at " + text(where) + " after a thread of the block has returned");
  }
  me.where = where;
  require_same_barrier(block, me);
  me.state = Thread::State::kAtBarrier;
  if (block.num_at_barrier == 0) block.first_at_barrier = &me;
  me.predicate = predicate;
  if (++block.num_at_barrier == block.num_threads) {
    open_barrier(block);
  } else {
    me.fiber.pause();
  }
  return me.predicates;
}

void collective(unsigned mask, Combine combine, void* argument, const Location& where) {
  Block& block = *running.block;
  Thread& me = *running.thread;
  Warp& warp = block.warps[me.warp];
  if (!in(mask, me.lane)) fail("mask lacks the calling lane at " + text(where));
  if ((mask & ~warp.live) != 0) {
    fail("mask names a lane that has returned or never was, at " + text(where));
  }
  me.where = where;
  me.mask = mask;
  me.combine = combine;
  me.argument = argument;
  require_same_collective(block, me);
  me.state = Thread::State::kAtCollective;
  warp.waiting |= 1u << me.lane;
  if ((mask & ~warp.waiting) == 0) {
    finish_collective(block, me);
  } else {
    me.fiber.pause();
  }
}

void sync_warp(unsigned mask, const Location& where) {
  char nothing = 0;
  collective(mask, open_warp_epoch, &nothing, where);
}

void shuffle(unsigned mask, void* value, std::size_t bytes, int source, const Location& where) {
  Shuffle mine{source, 0, 0};
  std::memcpy(&mine.in, value, bytes);
  collective(mask, combine_shuffles, &mine, where);
  std::memcpy(value, &mine.out, bytes);
}

unsigned ballot(unsigned mask, bool predicate, const Location& where) {
  Ballot mine{predicate, 0};
  collective(mask, combine_ballots, &mine, where);
  return mine.votes;
}

unsigned reduce(unsigned mask, unsigned value, Reduction reduction, const Location& where) {
  Reduce mine{reduction, value};
  collective(mask, combine_reductions, &mine, where);
  return mine.value;
}

void end_thread() {
  Block& block = *running.block;
  Thread& me = *running.thread;
  Warp& warp = block.warps[me.warp];
  require_no_copies();
  if (block.num_at_barrier > 0) forbid_return(block, *block.first_at_barrier);
  for (int lane = 0; lane < kWarpSize; ++lane) {
    if (!in(warp.waiting, lane)) continue;
    const Thread& other = block.lane(me.warp, lane);
    if (in(other.mask, me.lane)) forbid_return(block, other);
  }
  me.state = Thread::State::kDone;
  warp.live &= ~(1u << me.lane);
  --block.num_live;
}

int lane_id() { return running.thread->lane; }

}  // namespace simt
