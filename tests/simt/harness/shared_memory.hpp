#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "shadow.hpp"

namespace simt {

/// A block's shared memory: variables, each of its own, that start as NaN. An access past a
/// variable's end hits no variable.
class SharedMemory {
 public:
  /// All variables are forgotten; the dynamic one gets its size.
  void reset(std::size_t dynamic_bytes, std::size_t limit);

  std::byte* dynamic() { return variables_.front().data(); }

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
    std::unique_ptr<std::byte[]> memory;
    Shadow shadow;

    std::byte* data() const;
  };
  Variable& add(const void* key, std::size_t bytes);

  std::vector<Variable> variables_;
  std::size_t total_bytes_ = 0;
  std::size_t limit_ = 0;
};

/// Of the running thread's block.
void* shared_variable(const void* key, std::size_t bytes);
void* dynamic_shared();

}  // namespace simt
