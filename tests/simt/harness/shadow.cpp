#include "shadow.hpp"

#include "fences.hpp"
#include "machine.hpp"

namespace simt {
namespace {

constexpr std::size_t kGranule = 2;  // bytes

int block_of(const Access& access) { return static_cast<int>((access.thread - 1) / kMaxThreads); }
int thread_of(const Access& access) { return static_cast<int>((access.thread - 1) % kMaxThreads); }

bool same_warp(const Access& a, const Access& b) {
  return (a.thread - 1) / kWarpSize == (b.thread - 1) / kWarpSize;
}

Access access_now(const void* pc) {
  const Block& block = *running.block;
  const Thread& thread = *running.thread;
  const auto id = static_cast<std::uint32_t>(block.serial * kMaxThreads + thread.id + 1);
  return {id, block.epoch, block.warps[thread.warp].epoch, pc};
}

/// Whether the earlier access is sure to have happened before the present one.
bool is_ordered(const Access& earlier, const Access& now) {
  if (earlier.thread == 0 || earlier.thread == now.thread) return true;
  if (block_of(earlier) != block_of(now)) {
    return has_seen(*running.block, block_of(earlier), thread_of(earlier), earlier.epoch);
  }
  if (earlier.epoch < now.epoch) return true;
  return same_warp(earlier, now) && earlier.warp_epoch < now.warp_epoch;
}

void require_ordered(const Access& earlier, const char* did, const Access& now, const char* does) {
  if (is_ordered(earlier, now)) return;
  fail("race: " + std::string(does) + " at " + text(now.pc) + ", while thread " +
       std::to_string(thread_of(earlier)) + " of block " + std::to_string(block_of(earlier)) + " " +
       did + " at " + text(earlier.pc) + ", with no barrier between");
}

}  // namespace

void Shadow::record(Cell& cell, const Access& now, bool is_write) {
  require_ordered(cell.writer, "wrote", now, is_write ? "writes" : "reads");
  if (is_write) {
    for (Access* reader : {&cell.reader, &cell.same_warp_reader, &cell.other_warp_reader}) {
      require_ordered(*reader, "read", now, "writes");
    }
    cell = {.writer = now, .reader = {}, .same_warp_reader = {}, .other_warp_reader = {}};
  } else if (is_ordered(cell.reader, now)) {
    cell.reader = now;
  } else if (same_warp(cell.reader, now)) {
    cell.same_warp_reader = now;
  } else {
    cell.other_warp_reader = now;
  }
}

void Shadow::record(std::size_t offset, std::size_t bytes, bool is_write, const void* pc) {
  if (cells_.empty()) cells_.resize((bytes_ + kGranule - 1) / kGranule);
  const Access now = access_now(pc);
  for (std::size_t at = offset / kGranule; at * kGranule < offset + bytes; ++at) {
    record(cells_[at], now, is_write);
  }
}

}  // namespace simt
