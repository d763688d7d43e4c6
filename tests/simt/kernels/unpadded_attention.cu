// branch_attention without the padding of rows in shared memory: what the limits on traffic are
// for.

#include "attention/cuda/branch_attention.cuh"
#include "common/cuda/launch.cuh"
#include "workspace.hpp"

namespace {

using namespace specbranch;

struct Unpadded : MmaTiling<64, 1> {
  static constexpr int kStride = kHeadDim;
};

}  // namespace

SIMT_EXPORT int unpadded_attention(const BranchAttentionParams* params, int num_multiprocessors,
                                   const simt::WorkspaceNeed* need, float* memory) {
  return simt::guarded([&] {
    const SplitPlan plan(*params, num_multiprocessors);
    const dim3 grid(plan.max_row_tiles, plan.max_splits, params->num_kv_heads);
    const Workspace workspace = need->in(memory);
    BranchAttentionLaunch launch{*params, plan, workspace.tickets};
    launch.params.workspace = reinterpret_cast<float*>(workspace.scratch);
    launch_kernel("", branch_attention_kernel<__nv_bfloat16, Unpadded>,
                  {grid, kAttentionThreads, sizeof(AttentionShared<__nv_bfloat16, Unpadded>)}, {},
                  launch);
  });
}
