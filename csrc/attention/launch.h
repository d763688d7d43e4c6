#pragma once

#include "attention/params.h"
#include "attention/split_plan.h"
#include "common/cuda_stream.h"
#include "common/workspace.h"

namespace specbranch {

/// Enqueues tree_mask. Throws std::runtime_error where CUDA refuses the launch.
void launch_tree_mask(const TreeMaskParams& params, CudaStream stream);

/// Enqueues branch_attention, with plan.workspace(params) as workspace. Throws std::runtime_error
/// where CUDA refuses the launch.
void launch_branch_attention(const BranchAttentionParams& params, const SplitPlan& plan,
                             const Workspace& workspace, CudaStream stream);

}  // namespace specbranch
