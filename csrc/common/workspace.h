#pragma once

#include <cstddef>
#include <cstdint>

namespace specbranch {

/// Device memory that a launch needs beside its results.
struct WorkspaceSize {
  std::int64_t scratch_bytes;
  std::int64_t num_tickets;
};

/// The scratch is aligned to 16 bytes, its content of no matter. Tickets must be 0, and are 0 again
/// after the launch, so a workspace serves any number of launches that follow each other.
struct Workspace {
  std::byte* scratch;
  unsigned* tickets;
};

}  // namespace specbranch
