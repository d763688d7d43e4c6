#pragma once

#include <cstdint>

#include "common/cuda_stream.h"
#include "common/workspace.h"
#include "verify/params.h"

namespace specbranch {

/// Of B requests with target_logits [T, V], under either coupling.
WorkspaceSize verify_tree_workspace(std::int64_t batch_size, std::int64_t num_rows,
                                    std::int64_t vocab_size);

/// Enqueues one kernel. Throws std::runtime_error if CUDA refuses the launch.
void launch_verify_tree(const VerifyTreeParams& params, const Workspace& workspace,
                        CudaStream stream);

}  // namespace specbranch
