#include <stdexcept>

#include "attention/launch.h"
#include "attention/split_plan.h"
#include "workspace.hpp"

using simt::WorkspaceNeed;
using specbranch::BranchAttentionParams;
using specbranch::SplitPlan;

/// The workspace and the splits. The largest workspace is no smaller.
SIMT_EXPORT int branch_attention_plan(const BranchAttentionParams* params, int num_multiprocessors,
                                      WorkspaceNeed* need, int* max_splits) {
  return simt::guarded([&] {
    const SplitPlan plan(*params, num_multiprocessors);
    const auto size = plan.workspace(*params);
    *need = WorkspaceNeed(size);
    *max_splits = plan.max_splits;
    if (params->split_size > 0) return;
    const auto largest =
        specbranch::largest_attention_workspace(params->head_dim, num_multiprocessors);
    if (size.scratch_bytes > largest.scratch_bytes || size.num_tickets > largest.num_tickets) {
      throw std::logic_error("a workspace larger than the largest");
    }
  });
}

SIMT_EXPORT int branch_attention(const BranchAttentionParams* params, int num_multiprocessors,
                                 const WorkspaceNeed* need, float* memory) {
  return simt::guarded([&] {
    const SplitPlan plan(*params, num_multiprocessors);
    launch_branch_attention(*params, plan, need->in(memory), nullptr);
  });
}
