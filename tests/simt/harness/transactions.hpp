#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

namespace simt {

enum class Space : std::uint8_t { kGlobal, kShared };

/// Of one kind of access, summed over the warps of a launch.
struct Transactions {
  std::int64_t requests = 0;      // instructions of a warp
  std::int64_t transactions = 0;  // global: 32-byte sectors; shared: passes over the banks
  std::int64_t ideal = 0;         // as many as the distinct bytes need at least
};

/// Reads and writes of global and of shared memory.
struct Traffic {
  Transactions global_reads, global_writes, shared_reads, shared_writes;

  Transactions& of(Space space, bool is_write) {
    if (space == Space::kGlobal) return is_write ? global_writes : global_reads;
    return is_write ? shared_writes : shared_reads;
  }
};

/// Joins the accesses of a warp's lanes into requests: the n-th execution of an instruction by
/// each lane is one request.
class WarpTraffic {
 public:
  void clear() { *this = {}; }
  void record(int lane, Space space, bool is_write, std::uintptr_t address, std::size_t bytes,
              const void* pc);
  void add_to(Traffic& traffic) const;

 private:
  using Addresses = std::array<std::uintptr_t, 32>;  // 0: the lane had no part
  struct Instruction {
    bool is_write = false;
    std::size_t bytes = 0;
    std::array<std::uint32_t, 32> executions{};
    std::vector<Addresses> requests;
  };
  using Instructions = std::unordered_map<const void*, Instruction>;
  std::array<Instructions, 2> instructions_;  // of each space: cp.async reads one, writes the other
};

}  // namespace simt
