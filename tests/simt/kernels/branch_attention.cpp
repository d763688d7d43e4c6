// branch_attention for ctypes.

#include "attention/launch.h"
#include "attention/split_plan.h"
#include "bind.hpp"

using specbranch::BranchAttentionParams;
using specbranch::SplitPlan;

SIMT_EXPORT std::size_t simt_branch_attention_params_size() {
  return sizeof(BranchAttentionParams);
}

/// The sizes that depend on the number of multiprocessors: workspace floats, tickets, splits.
SIMT_EXPORT void simt_branch_attention_plan(const BranchAttentionParams* params,
                                            int num_multiprocessors, long* sizes) {
  const SplitPlan plan(*params, num_multiprocessors);
  sizes[0] = plan.workspace_size(*params);
  sizes[1] = plan.num_tickets(*params);
  sizes[2] = plan.max_splits;
}

SIMT_EXPORT int simt_branch_attention(const BranchAttentionParams* params,
                                      int num_multiprocessors) {
  return simt::guarded(
      [&] { launch_branch_attention(*params, SplitPlan(*params, num_multiprocessors), nullptr); });
}
