#pragma once

#include <cstddef>

#include "bind.hpp"
#include "common/workspace.h"

/// A launcher of csrc that needs a workspace, for Python: name(params, scratch, tickets),
/// name_workspace(params, sizes) for their sizes, and name_params_bytes() to compare layouts.
#define SIMT_WORKSPACE_LAUNCHER(name, Params)                                                     \
  SIMT_EXPORT int name(const specbranch::Params* params, std::byte* scratch, unsigned* tickets) { \
    return simt::guarded(                                                                         \
        [&] { specbranch::launch_##name(*params, {scratch, tickets}, nullptr); });                \
  }                                                                                               \
  SIMT_EXPORT int name##_workspace(const specbranch::Params* params, std::int64_t* sizes) {       \
    return simt::guarded([&] {                                                                    \
      const specbranch::WorkspaceSize size = specbranch::name##_workspace(*params);               \
      sizes[0] = size.scratch_bytes;                                                              \
      sizes[1] = size.num_tickets;                                                                \
    });                                                                                           \
  }                                                                                               \
  SIMT_EXPORT long name##_params_bytes() { return sizeof(specbranch::Params); }
