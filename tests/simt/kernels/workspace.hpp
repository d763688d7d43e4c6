#pragma once

#include "bind.hpp"
#include "common/workspace.h"

namespace simt {

/// For Python: a workspace's size, and where its scratch begins.
struct WorkspaceNeed {
  specbranch::WorkspaceSize size;
  std::int64_t first_scratch;

  explicit WorkspaceNeed(const specbranch::WorkspaceSize& size)
      : size(size), first_scratch(size.first_scratch()) {}

  specbranch::Workspace in(float* memory) const { return {memory, size}; }
};

}  // namespace simt

/// A launcher of csrc that needs a workspace, for Python: name(params, need, memory), and
/// name_params_bytes() to compare layouts.
#define SIMT_WORKSPACE_LAUNCHER(name, Params)                                                     \
  SIMT_EXPORT int name(const specbranch::Params* params, const simt::WorkspaceNeed* need,         \
                       float* memory) {                                                           \
    return simt::guarded([&] { specbranch::launch_##name(*params, need->in(memory), nullptr); }); \
  }                                                                                               \
  SIMT_EXPORT long name##_params_bytes() { return sizeof(specbranch::Params); }

/// The same for rows of logits, with name_workspace(num_rows, vocab_size, need).
#define SIMT_ROWS_LAUNCHER(name, Params)                                                        \
  SIMT_WORKSPACE_LAUNCHER(name, Params)                                                         \
  SIMT_EXPORT int name##_workspace(long num_rows, long vocab_size, simt::WorkspaceNeed* need) { \
    *need = simt::WorkspaceNeed(specbranch::name##_workspace(num_rows, vocab_size));            \
    return 0;                                                                                   \
  }
