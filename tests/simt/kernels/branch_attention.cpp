#include "attention/launch.h"
#include "attention/split_plan.h"
#include "bind.hpp"

using specbranch::BranchAttentionParams;
using specbranch::SplitPlan;

/// Three numbers: floats of the workspace, tickets, splits.
SIMT_EXPORT int branch_attention_plan(const BranchAttentionParams* params, int num_multiprocessors,
                                      long* sizes) {
  return simt::guarded([&] {
    const SplitPlan plan(*params, num_multiprocessors);
    sizes[0] = plan.workspace_size(*params);
    sizes[1] = plan.num_tickets(*params);
    sizes[2] = plan.max_splits;
  });
}

SIMT_EXPORT int branch_attention(const BranchAttentionParams* params, int num_multiprocessors) {
  return simt::guarded(
      [&] { launch_branch_attention(*params, SplitPlan(*params, num_multiprocessors), nullptr); });
}
