#include "common/cpu/lent_cores.h"

#include <atomic>
#include <utility>

namespace specbranch {
namespace {

std::atomic<int> threads_at_work{0};
thread_local int works = 0;
thread_local std::vector<int> lent;

}  // namespace

void lend_cores(std::vector<int> cores) { lent = std::move(cores); }

std::span<const int> lent_cores() {
  const int others = threads_at_work.load(std::memory_order_relaxed) - (works > 0 ? 1 : 0);
  return others > 0 ? std::span<const int>() : lent;
}

AtWork::AtWork() {
  if (works++ == 0) threads_at_work.fetch_add(1, std::memory_order_relaxed);
}

AtWork::~AtWork() {
  if (--works == 0) threads_at_work.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace specbranch
