#pragma once

#include <cstddef>
#include <cstdint>

namespace simt {

/// A stack of its own on which a function runs until it pauses.
class Fiber {
 public:
  using Entry = void (*)();  // pauses at its end, and is never resumed again

  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// Forgets what ran here; the next resume() calls entry.
  void restart(Entry entry);
  /// Runs until the function pauses. Called by the scheduler only.
  void resume();
  /// Gives control back to the scheduler.
  void pause();

  bool owns(std::uintptr_t address) const {
    return address - reinterpret_cast<std::uintptr_t>(stack_) < kStackBytes;
  }

 private:
  static constexpr std::size_t kStackBytes = 64 << 10;

  char* stack_;
  void* stack_pointer_ = nullptr;
  void* scheduler_stack_pointer_ = nullptr;
};

}  // namespace simt
