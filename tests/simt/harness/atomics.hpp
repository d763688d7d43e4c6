#pragma once

namespace simt {

/// Order and checks around an atomic: other threads may run before it.
void before_atomic(const void* address, unsigned bytes, const void* pc);
void after_atomic(const void* address);

/// Atomic, as only one thread runs at a time. Not instrumented: atomics race with nothing.
template <class T, class F>
__attribute__((no_sanitize("thread"), noinline)) T atomic_update(T* address, const F& update) {
  before_atomic(address, sizeof(T), __builtin_return_address(0));
  const T old = *address;
  *address = update(old);
  after_atomic(address);
  return old;
}

}  // namespace simt
