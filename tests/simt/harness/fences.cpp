#include "fences.hpp"

#include <unordered_map>

namespace simt {
namespace {

/// Until where a block's work is known: all before the epoch, and of one thread the epoch too.
struct Known {
  std::uint32_t epoch = 0;
  int thread = -1;
};
using Knowledge = std::unordered_map<int, Known>;  // by block

std::unordered_map<const void*, Knowledge> published;
std::unordered_map<int, Knowledge> seen;

void merge(const Knowledge& from, Knowledge& into) {
  for (const auto& [block, known] : from) {
    Known& old = into[block];
    if (known.epoch >= old.epoch) old = known;
  }
}

}  // namespace

void forget_fences() {
  published.clear();
  seen.clear();
}

bool has_seen(const Block& block, int other_block, int other_thread, std::uint32_t epoch) {
  const Knowledge& knowledge = seen[block.serial];
  const auto known = knowledge.find(other_block);
  if (known == knowledge.end()) return false;
  return epoch < known->second.epoch ||
         (epoch == known->second.epoch && other_thread == known->second.thread);
}

void release() { running.thread->fenced = true; }

void acquire() {
  Thread& thread = *running.thread;
  for (const void* address : thread.observed)
    merge(published[address], seen[running.block->serial]);
  thread.observed.clear();
}

void fence() {
  acquire();
  release();
}

void observe(const void* address) { running.thread->observed.push_back(address); }

void note_atomic(const void* address) {
  Block& block = *running.block;
  Thread& thread = *running.thread;
  if (thread.fenced) {
    Knowledge& there = published[address];
    merge(seen[block.serial], there);
    there[block.serial] = {block.epoch, thread.id};
    thread.fenced = false;
  }
  observe(address);
}

}  // namespace simt
