#pragma once

#include <cstddef>
#include <cstdint>

#include "bind.hpp"
#include "common/workspace.h"

namespace simt {

/// For Python: bytes of scratch, number of tickets.
inline int report(const specbranch::WorkspaceSize& size, std::int64_t* sizes) {
  sizes[0] = size.scratch_bytes;
  sizes[1] = size.num_tickets;
  return 0;
}

}  // namespace simt

/// A launcher of csrc that needs a workspace, for Python: name(params, scratch, tickets), and
/// name_params_bytes() to compare layouts.
#define SIMT_WORKSPACE_LAUNCHER(name, Params)                                                     \
  SIMT_EXPORT int name(const specbranch::Params* params, std::byte* scratch, unsigned* tickets) { \
    return simt::guarded(                                                                         \
        [&] { specbranch::launch_##name(*params, {scratch, tickets}, nullptr); });                \
  }                                                                                               \
  SIMT_EXPORT long name##_params_bytes() { return sizeof(specbranch::Params); }

/// The same for rows of logits, with name_workspace(num_rows, vocab_size, sizes).
#define SIMT_ROWS_LAUNCHER(name, Params)                                                  \
  SIMT_WORKSPACE_LAUNCHER(name, Params)                                                   \
  SIMT_EXPORT int name##_workspace(long num_rows, long vocab_size, std::int64_t* sizes) { \
    return simt::report(specbranch::name##_workspace(num_rows, vocab_size), sizes);       \
  }
