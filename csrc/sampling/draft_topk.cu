#include "sampling/draft_topk.cuh"

#include "common/cuda_launch.cuh"
#include "sampling/dispatch.cuh"
#include "sampling/launch.h"

namespace specbranch {

static_assert(kMaxDraftGuesses == kMaxListed);

WorkspaceSize draft_topk_workspace(const DraftTopkParams& p) {
  const std::int64_t rows = p.logits.num_rows;
  const auto tile_bytes = num_tiles(p.logits.vocab_size) * sizeof(DraftStats);
  return {rows * static_cast<std::int64_t>(tile_bytes), rows};
}

void launch_draft_topk(const DraftTopkParams& p, const Workspace& workspace, CudaStream stream) {
  if (p.logits.num_rows == 0) return;
  const dim3 grid(p.logits.num_rows, blocks_of_row(p.logits.vocab_size));
  dispatch_element(p.logits.dtype, [&](auto element) {
    launch_kernel("draft_topk", draft_topk_kernel<decltype(element)>, {grid, dim3(kRowThreads)},
                  stream, p, reinterpret_cast<DraftStats*>(workspace.scratch), workspace.tickets);
  });
}

}  // namespace specbranch
