#include "async_copy.hpp"

#include <cstring>

#include "machine.hpp"
#include "memory.hpp"

namespace simt {
namespace {

constexpr int kCopyBytes = 16;

void perform(const AsyncCopy& copy) {
  auto* to = static_cast<char*>(copy.shared);
  std::memcpy(to, copy.global, copy.bytes);
  std::memset(to + copy.bytes, 0, kCopyBytes - copy.bytes);
}

}  // namespace

void start_copy(void* shared, const void* global, int bytes, const void* pc) {
  if (bytes > 0) on_access(global, kCopyBytes, false, pc);
  // The data may arrive at any time until the wait, so the place is written now and then.
  on_access(shared, kCopyBytes, true, pc);
  const AsyncCopy copy{shared, global, bytes, pc};
  if (!schedule.late_copies) perform(copy);
  running.thread->open_copies.push_back(copy);
}

void commit_copies() {
  Thread& thread = *running.thread;
  thread.copy_groups.push_back(std::move(thread.open_copies));
  thread.open_copies.clear();
}

void wait_copies(int groups) {
  Thread& thread = *running.thread;
  while (static_cast<int>(thread.copy_groups.size()) > groups) {
    for (const AsyncCopy& copy : thread.copy_groups.front()) {
      if (schedule.late_copies) perform(copy);
      on_arrival(copy.shared, kCopyBytes, copy.pc);
    }
    thread.copy_groups.pop_front();
  }
}

void require_no_copies() {
  const Thread& thread = *running.thread;
  bool under_way = !thread.open_copies.empty();
  for (const auto& group : thread.copy_groups) under_way |= !group.empty();
  if (under_way) fail("returns while cp.async copies are under way");
}

}  // namespace simt
