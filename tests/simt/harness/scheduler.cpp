#include "scheduler.hpp"

#include <algorithm>
#include <numeric>
#include <random>
#include <stdexcept>

#include "collectives.hpp"
#include "fences.hpp"
#include "memory.hpp"

// The built-in variables of the thread that runs.
uint3 threadIdx;
uint3 blockIdx;
dim3 blockDim;
dim3 gridDim;

namespace simt {

Running running;
Schedule schedule;

namespace {

constexpr int kPatience = 100;  // rounds in which all blocks that run only spin

std::mt19937 random_bits;
std::function<void()> kernel;
std::string failure;

/// Fibers are made once and serve all launches.
std::vector<std::unique_ptr<Block>>& slots() {
  static std::vector<std::unique_ptr<Block>> all;
  return all;
}

uint3 index_in(const dim3& extent, unsigned serial) {
  return {serial % extent.x, serial / extent.x % extent.y, serial / extent.x / extent.y};
}

void run_thread() {
  kernel();
  end_thread();
  running.thread->fiber.pause();
}

void start_thread(Block& block, int id) {
  Thread& thread = *block.threads[id];
  thread.index = index_in(blockDim, id);
  thread.id = id;
  thread.warp = id / kWarpSize;
  thread.lane = id % kWarpSize;
  thread.state = Thread::State::kReady;
  thread.open_copies.clear();
  thread.copy_groups.clear();
  thread.observed.clear();
  thread.fenced = false;
  thread.fiber.restart(run_thread);
  block.warps[thread.warp].live |= 1u << thread.lane;
}

void start_block(Block& block, int serial, std::size_t shared_bytes) {
  block.serial = serial;
  block.index = index_in(gridDim, serial);
  block.num_threads = static_cast<int>(blockDim.x * blockDim.y * blockDim.z);
  block.num_live = block.num_threads;
  block.num_at_barrier = 0;
  block.epoch = 0;
  block.warps.assign((block.num_threads + kWarpSize - 1) / kWarpSize, {});
  while (static_cast<int>(block.threads.size()) < block.num_threads) {
    block.threads.push_back(std::make_unique<Thread>());
  }
  block.shared.reset(shared_bytes, schedule.shared_limit);
  for (int id = 0; id < block.num_threads; ++id) start_thread(block, id);
}

bool run_if_ready(Block& block, Thread& thread) {
  if (thread.state != Thread::State::kReady || !failure.empty()) return false;
  running = {&block, &thread};
  threadIdx = thread.index;
  blockIdx = block.index;
  thread.spins = false;
  thread.fiber.resume();
  running = {};
  return !thread.spins;
}

bool spins(const Block& block) {
  const auto& threads = block.threads;
  return std::any_of(threads.begin(), threads.begin() + block.num_threads, [](const auto& thread) {
    return thread->state == Thread::State::kReady && thread->spins;
  });
}

std::vector<int> thread_order(const Block& block) {
  std::vector<int> order(block.num_threads);
  std::iota(order.begin(), order.end(), 0);
  if (schedule.order == Order::kReverse) std::reverse(order.begin(), order.end());
  if (schedule.order == Order::kRandom) std::shuffle(order.begin(), order.end(), random_bits);
  return order;
}

/// Runs every warp until each of its threads has ended or waits for the whole block.
bool run_warps(Block& block) {
  bool progress = false;
  for (int first = 0; first < block.num_threads; first += kWarpSize) {
    const int last = std::min(first + kWarpSize, block.num_threads);
    for (bool again = true; again;) {
      again = false;
      for (int id = first; id < last; ++id) again |= run_if_ready(block, *block.threads[id]);
      progress |= again;
    }
  }
  return progress;
}

/// Lets every ready thread run once, until it waits.
bool run_pass(Block& block) {
  if (schedule.order == Order::kWarpGreedy) return run_warps(block);
  bool progress = false;
  for (const int id : thread_order(block)) progress |= run_if_ready(block, *block.threads[id]);
  return progress;
}

void report_deadlock(const Block& block) {
  failure = "deadlock:";
  for (int id = 0; id < block.num_threads; ++id) {
    const Thread& thread = *block.threads[id];
    if (thread.state == Thread::State::kDone) continue;
    failure += " " + name(block, thread) + " waits at " + text(thread.where);
    return;
  }
}

std::vector<int> block_order(int num_blocks) {
  std::vector<int> order(num_blocks);
  std::iota(order.begin(), order.end(), 0);
  if (schedule.shuffle_blocks) std::shuffle(order.begin(), order.end(), random_bits);
  return order;
}

void retire(const Block& block) {
  for (const Warp& warp : block.warps) add_traffic(warp.traffic);
}

/// Keeps as many blocks under way as may be resident, a pass of one after a pass of another.
void run_blocks(const std::vector<int>& order, std::size_t shared_bytes) {
  std::size_t next = 0;
  std::vector<Block*> resident;
  while (static_cast<int>(slots().size()) < schedule.resident_blocks) {
    slots().push_back(std::make_unique<Block>());
  }
  for (int i = 0; i < schedule.resident_blocks && next < order.size(); ++i) {
    resident.push_back(slots()[i].get());
    start_block(*resident.back(), order[next++], shared_bytes);
  }
  for (int idle_rounds = 0; !resident.empty() && failure.empty(); ++idle_rounds) {
    if (idle_rounds == kPatience) report_deadlock(*resident.front());
    for (Block* block : resident) {
      if (schedule.shuffle_blocks && random_bits() % 2 == 0) continue;  // others overtake it
      if (run_pass(*block)) {
        idle_rounds = -1;
      } else if (failure.empty() && !spins(*block)) {
        report_deadlock(*block);
      }
      if (block->num_live > 0 || !failure.empty()) continue;
      retire(*block);
      if (next < order.size()) start_block(*block, order[next++], shared_bytes);
    }
    std::erase_if(resident, [](const Block* block) { return block->num_live == 0; });
  }
}

}  // namespace

std::string name(const Block& block, const Thread& thread) {
  const auto triple = [](const uint3& index) {
    return "(" + std::to_string(index.x) + "," + std::to_string(index.y) + "," +
           std::to_string(index.z) + ")";
  };
  return "block " + triple(block.index) + " thread " + triple(thread.index);
}

void fail(const std::string& message) {
  if (running.thread == nullptr) throw std::runtime_error(message);
  failure = message + " [" + name(*running.block, *running.thread) + "]";
  running.thread->fiber.pause();
  __builtin_unreachable();
}

void spin(const Location& where) {
  running.thread->where = where;
  running.thread->spins = true;
  running.thread->fiber.pause();
}

void maybe_yield() {
  if (schedule.order == Order::kRandom && random_bits() % 2 == 0) running.thread->fiber.pause();
}

void run_grid(dim3 grid, dim3 block, std::size_t shared_bytes, std::function<void()> body) {
  const std::size_t threads = std::size_t{block.x} * block.y * block.z;
  const std::size_t blocks = std::size_t{grid.x} * grid.y * grid.z;
  if (threads == 0 || threads > kMaxThreads || blocks == 0 || grid.y > 65535 || grid.z > 65535) {
    throw std::runtime_error("invalid configuration: " + std::to_string(blocks) + " blocks of " +
                             std::to_string(threads) + " threads");
  }
  gridDim = grid;
  blockDim = block;
  kernel = std::move(body);
  failure.clear();
  random_bits.seed(schedule.seed);
  forget_fences();
  forget_accesses();
  run_blocks(block_order(static_cast<int>(blocks)), shared_bytes);
  if (!failure.empty()) throw std::runtime_error(failure);
}

}  // namespace simt
