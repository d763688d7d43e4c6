#include "shared_memory.hpp"

#include <sys/mman.h>

#include <cstring>
#include <new>
#include <string>

#include "machine.hpp"

namespace simt {
namespace {

constexpr std::size_t kAlignment = 128;  // all banks, so that an address tells its bank
constexpr int kNaNBytes = 0xff;
constexpr std::size_t kRoom = 1 << 20;  // more than any limit, with what lies between variables

}  // namespace

SharedMemory::SharedMemory() {
  void* memory = mmap(nullptr, kRoom, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_32BIT, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<std::byte*>(memory);
}

SharedMemory::~SharedMemory() { munmap(memory_, kRoom); }

SharedMemory::Variable& SharedMemory::add(const void* key, std::size_t bytes) {
  total_bytes_ += bytes;
  if (total_bytes_ > limit_) {
    fail("shared memory: " + std::to_string(total_bytes_) + " bytes, of " + std::to_string(limit_));
  }
  next_ += kAlignment - next_ % kAlignment;  // nobody's bytes between variables
  Variable variable{key, bytes, memory_ + next_, {}};
  next_ += bytes;
  std::memset(variable.data, kNaNBytes, bytes);
  variable.shadow.resize(bytes);
  variables_.push_back(std::move(variable));
  return variables_.back();
}

void SharedMemory::reset(std::size_t dynamic_bytes, std::size_t limit) {
  variables_.clear();
  total_bytes_ = 0;
  next_ = 0;
  limit_ = limit;
  add(nullptr, dynamic_bytes);
}

std::byte* SharedMemory::variable(const void* key, std::size_t bytes) {
  for (Variable& variable : variables_) {
    if (variable.key == key) return variable.data;
  }
  return add(key, bytes).data;
}

SharedMemory::Place SharedMemory::find(std::uintptr_t address, std::size_t bytes) {
  for (Variable& variable : variables_) {
    const std::size_t offset = address - reinterpret_cast<std::uintptr_t>(variable.data);
    if (offset < variable.bytes && offset + bytes <= variable.bytes) {
      return {offset, &variable.shadow};
    }
  }
  return {0, nullptr};
}

void* shared_variable(const void* key, std::size_t bytes) {
  return running.block->shared.variable(key, bytes);
}

void* dynamic_shared() { return running.block->shared.dynamic(); }

}  // namespace simt
