#pragma once

#include "attention/params.h"
#include "attention/split_plan.h"
#include "common/cuda_stream.h"

namespace specbranch {

/// Enqueues tree_mask. Throws std::runtime_error where CUDA refuses the launch.
void launch_tree_mask(const TreeMaskParams& params, CudaStream stream);

/// Enqueues branch_attention. params.workspace has plan.workspace_size(params) floats, aligned to
/// 16 bytes, of which the first plan.num_tickets(params) are zero, and are zero again afterwards.
/// Throws std::runtime_error where CUDA refuses the launch.
void launch_branch_attention(const BranchAttentionParams& params, const SplitPlan& plan,
                             CudaStream stream);

}  // namespace specbranch
