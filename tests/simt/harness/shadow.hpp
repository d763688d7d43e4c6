#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace simt {

/// Who accessed a place last: the orderings that hold between threads follow from these numbers.
struct Access {
  std::uint32_t thread = 0;  // in the grid, from 1 on; 0: nobody
  std::uint32_t epoch = 0;   // barriers that the block had passed
  std::uint32_t warp_epoch = 0;
  const void* pc = nullptr;
};

/// The latest accesses of each two bytes of some memory.
class Shadow {
 public:
  void resize(std::size_t bytes) { bytes_ = bytes; }
  std::size_t bytes() const { return bytes_; }
  void forget() { cells_.clear(); }

  /// The access by the running thread is recorded; an earlier one that no barrier separates from
  /// it, one of the two being a write, ends the launch.
  void record(std::size_t offset, std::size_t bytes, bool is_write, const void* pc);

 private:
  struct Cell {
    Access writer;
    Access reader;
    Access same_warp_reader;  // of another thread, unordered with `reader`
    Access other_warp_reader;
  };
  static void record(Cell& cell, const Access& now, bool is_write);

  std::size_t bytes_ = 0;
  std::vector<Cell> cells_;  // made at the first access
};

}  // namespace simt
