#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "shadow.hpp"

namespace simt {

/// A block's shared memory: variables, each of its own, that start as NaN. An access past a
/// variable's end hits no variable. All lies below 2 GiB, as PTX has addresses of 32 bits for it.
class SharedMemory {
 public:
  SharedMemory();
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  /// All variables are forgotten; the dynamic one gets its size.
  void reset(std::size_t dynamic_bytes, std::size_t limit);

  std::byte* dynamic() { return variables_.front().data; }

  /// The variable of a declaration, which `key` identifies; made at its first use.
  std::byte* variable(const void* key, std::size_t bytes);

  struct Place {
    std::size_t offset;
    Shadow* shadow;
  };
  /// Where in which variable an access falls; the shadow is null if in none.
  Place find(std::uintptr_t address, std::size_t bytes);

 private:
  struct Variable {
    const void* key;
    std::size_t bytes;
    std::byte* data;
    Shadow shadow;
  };
  Variable& add(const void* key, std::size_t bytes);

  std::byte* memory_;
  std::size_t next_ = 0;  // of its bytes that no variable has
  std::vector<Variable> variables_;
  std::size_t total_bytes_ = 0;
  std::size_t limit_ = 0;
};

/// Of the running thread's block.
void* shared_variable(const void* key, std::size_t bytes);
void* dynamic_shared();

}  // namespace simt
