#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace specbranch {

/// Tickets of a launch in a workspace that is kept: 64 KB, whatever the launch.
inline constexpr std::int64_t kKeptTickets = 1 << 14;

/// Device memory that a launch needs beside its results: tickets, and from the same place on in all
/// launches that fit a kept workspace, scratch. So none writes over the tickets of another.
struct WorkspaceSize {
  std::int64_t scratch_bytes;
  std::int64_t num_tickets;

  /// Where the scratch begins, in floats.
  std::int64_t first_scratch() const {
    constexpr std::int64_t kAlignment = 4;  // floats
    const std::int64_t aligned = (num_tickets + kAlignment - 1) / kAlignment * kAlignment;
    return std::max(kKeptTickets, aligned);
  }

  /// What a caller allocates.
  std::int64_t num_floats() const {
    constexpr std::int64_t kFloat = sizeof(float);
    if (num_tickets == 0 && scratch_bytes == 0) return 0;
    return first_scratch() + (scratch_bytes + kFloat - 1) / kFloat;
  }
};

/// The scratch is aligned to 16 bytes, its content of no matter. Tickets must be 0, and the blocks
/// that arrive last set them to 0 again, so a workspace that was zeroed once serves any number of
/// launches that follow each other.
struct Workspace {
  std::byte* scratch;
  unsigned* tickets;

  /// In size.num_floats() floats, aligned to 16 bytes.
  Workspace(float* memory, const WorkspaceSize& size)
      : scratch(reinterpret_cast<std::byte*>(memory + size.first_scratch())),
        tickets(reinterpret_cast<unsigned*>(memory)) {}
};

}  // namespace specbranch
