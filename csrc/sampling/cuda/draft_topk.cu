#include "sampling/cuda/draft_topk.cuh"

#include "common/cuda/elements.cuh"
#include "common/cuda/launch.cuh"
#include "sampling/launch.h"

namespace specbranch {

static_assert(kMaxDraftGuesses == kMaxListed);

WorkspaceSize draft_topk_workspace(std::int64_t num_rows, std::int64_t vocab_size) {
  const auto row_bytes = num_tiles(vocab_size) * static_cast<std::int64_t>(sizeof(DraftStats));
  return {num_rows * row_bytes, num_rows};
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
