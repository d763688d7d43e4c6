#include <stdexcept>

#include "attention/launch.h"
#include "attention/split_plan.h"
#include "bind.hpp"

using specbranch::BranchAttentionParams;
using specbranch::SplitPlan;

/// Three numbers: bytes of scratch, tickets, splits. The largest workspace is no smaller.
SIMT_EXPORT int branch_attention_plan(const BranchAttentionParams* params, int num_multiprocessors,
                                      long* sizes) {
  return simt::guarded([&] {
    const SplitPlan plan(*params, num_multiprocessors);
    const auto size = plan.workspace(*params);
    sizes[0] = size.scratch_bytes;
    sizes[1] = size.num_tickets;
    sizes[2] = plan.max_splits;
    const auto largest =
        specbranch::largest_attention_workspace(params->head_dim, num_multiprocessors);
    if (size.scratch_bytes > largest.scratch_bytes || size.num_tickets > largest.num_tickets) {
      throw std::logic_error("a workspace larger than the largest");
    }
  });
}

SIMT_EXPORT int branch_attention(const BranchAttentionParams* params, int num_multiprocessors,
                                 std::byte* scratch, unsigned* tickets) {
  return simt::guarded([&] {
    const SplitPlan plan(*params, num_multiprocessors);
    launch_branch_attention(*params, plan, {scratch, tickets}, nullptr);
  });
}
