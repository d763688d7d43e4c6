// Kernels are compiled with -fsanitize=thread, which makes the compiler announce every access to
// memory; instead of that sanitizer's library, these functions are linked.

#include "memory.hpp"

#define SIMT_HOOK extern "C" __attribute__((used)) void

#define SIMT_PC __builtin_return_address(0)  // just after the access

#define SIMT_HOOKS(bytes)                                                                          \
  SIMT_HOOK __tsan_read##bytes(void* address) { simt::on_access(address, bytes, false, SIMT_PC); } \
  SIMT_HOOK __tsan_write##bytes(void* address) { simt::on_access(address, bytes, true, SIMT_PC); } \
  SIMT_HOOK __tsan_unaligned_read##bytes(void* address) {                                          \
    simt::on_access(address, bytes, false, SIMT_PC);                                               \
  }                                                                                                \
  SIMT_HOOK __tsan_unaligned_write##bytes(void* address) {                                         \
    simt::on_access(address, bytes, true, SIMT_PC);                                                \
  }

SIMT_HOOKS(1)
SIMT_HOOKS(2)
SIMT_HOOKS(4)
SIMT_HOOKS(8)
SIMT_HOOKS(16)

SIMT_HOOK __tsan_read_range(void* address, std::size_t bytes) {
  simt::on_access(address, bytes, false, SIMT_PC);
}
SIMT_HOOK __tsan_write_range(void* address, std::size_t bytes) {
  simt::on_access(address, bytes, true, SIMT_PC);
}
SIMT_HOOK __tsan_init() {}
