#pragma once

namespace simt {

/// cp.async of 16 bytes, of which the first `bytes` are read and the rest are zero.
void start_copy(void* shared, const void* global, int bytes, const void* pc);
void commit_copies();
/// Waits until at most `groups` committed groups are under way.
void wait_copies(int groups);

/// For a thread that returns: no copy may be under way.
void require_no_copies();

}  // namespace simt
