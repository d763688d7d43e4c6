#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "cuda/vector_types.h"
#include "fiber.hpp"
#include "location.hpp"
#include "shared_memory.hpp"
#include "transactions.hpp"

// The simulated device: blocks of threads, each thread a fiber of one OS thread.
namespace simt {

inline constexpr int kWarpSize = 32;
inline constexpr int kMaxThreads = 1024;  // of a block

struct AsyncCopy {
  void* shared;
  const void* global;
  int bytes;  // of 16; the rest becomes zero
  const void* pc;
};

/// Joins the arguments of a warp's lanes; arguments[lane] is null for lanes outside the mask.
using Combine = void (*)(void* const* arguments);

struct Thread {
  enum class State : std::uint8_t { kReady, kAtBarrier, kAtCollective, kDone };

  Fiber fiber;
  uint3 index{};
  int id = 0;  // in the block
  int warp = 0;
  int lane = 0;
  State state = State::kDone;
  Location where;  // while waiting
  // At a collective:
  unsigned mask = 0;
  Combine combine = nullptr;
  void* argument = nullptr;
  // At a barrier: what the thread brings, and what all brought.
  int predicate = 0;
  int predicates = 0;
  // cp.async: the copies since the last commit, and the committed groups that are under way.
  std::vector<AsyncCopy> open_copies;
  std::deque<std::vector<AsyncCopy>> copy_groups;
  // Addresses of atomics since the last fence, and whether a fence came before the next.
  std::vector<const void*> observed;
  bool fenced = false;
  bool spins = false;  // since it ran last, for want of what another block must write
};

struct Warp {
  unsigned live = 0;     // lanes that have not ended
  unsigned waiting = 0;  // lanes in a collective
  std::uint32_t epoch = 0;
  WarpTraffic traffic;
};

struct Block {
  uint3 index{};
  int serial = 0;  // in the grid
  int num_threads = 0;
  int num_live = 0;
  int num_at_barrier = 0;
  const Thread* first_at_barrier = nullptr;
  std::uint32_t epoch = 0;  // barriers passed
  std::vector<std::unique_ptr<Thread>> threads;
  std::vector<Warp> warps;
  SharedMemory shared;

  Thread& lane(int warp, int lane) { return *threads[warp * kWarpSize + lane]; }
};

enum class Order : std::uint8_t { kForward, kReverse, kRandom, kWarpGreedy };

/// How to run: everything that CUDA leaves open.
struct Schedule {
  Order order = Order::kForward;      // of the threads of a block
  std::uint32_t seed = 0;             // of what is random
  int resident_blocks = 1;            // blocks that run at the same time
  bool shuffle_blocks = false;        // random order of starts, and random paces
  bool late_copies = true;            // cp.async at its wait, or else at once
  std::size_t shared_limit = 232448;  // bytes of shared memory that a block may have
};

/// The thread that runs now and its block; null outside a kernel.
struct Running {
  Block* block = nullptr;
  Thread* thread = nullptr;
};
extern Running running;
extern Schedule schedule;

/// "block (0,0,0) thread (1,0,0)"
std::string name(const Block& block, const Thread& thread);

/// Ends the launch: records the message and never returns to the thread that runs.
[[noreturn]] void fail(const std::string& message);

/// Lets other threads run first, where the order of threads is random.
void maybe_yield();

/// Lets all others run before the thread looks again at what it waits for.
void spin(const Location& where);

}  // namespace simt
