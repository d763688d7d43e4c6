#pragma once

#include "common/cuda_stream.h"
#include "common/workspace.h"
#include "verify/params.h"

namespace specbranch {

WorkspaceSize verify_tree_workspace(const VerifyTreeParams& params);

/// Enqueues one kernel. Throws std::runtime_error if CUDA refuses the launch.
void launch_verify_tree(const VerifyTreeParams& params, const Workspace& workspace,
                        CudaStream stream);

}  // namespace specbranch
