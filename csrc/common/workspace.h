#pragma once

#include <cstddef>
#include <cstdint>

namespace specbranch {

/// Device memory that a launch needs beside its results.
struct WorkspaceSize {
  std::int64_t scratch_bytes;
  std::int64_t num_tickets;

  /// What a caller allocates: scratch, then tickets.
  std::int64_t num_floats() const {
    constexpr std::int64_t kFloat = sizeof(float);
    return (scratch_bytes + kFloat - 1) / kFloat + num_tickets;
  }
};

/// The scratch is aligned to 16 bytes, its content of no matter. Tickets must be 0, and the blocks
/// that arrive last set them to 0 again, so a workspace that was zeroed once serves any number of
/// launches that follow each other.
struct Workspace {
  std::byte* scratch;
  unsigned* tickets;
};

}  // namespace specbranch
