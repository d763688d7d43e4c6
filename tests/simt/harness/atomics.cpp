#include "atomics.hpp"

#include "fences.hpp"
#include "machine.hpp"
#include "memory.hpp"

namespace simt {

void before_atomic(const void* address, unsigned bytes, const void* pc) {
  require_writable(address, bytes, pc);
  maybe_yield();
}

void after_atomic(const void* address) {
  note_atomic(address);
  maybe_yield();
}

}  // namespace simt
