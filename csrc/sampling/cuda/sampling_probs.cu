#include "sampling/cuda/sampling_probs.cuh"

#include "common/cuda/elements.cuh"
#include "common/cuda/launch.cuh"
#include "sampling/launch.h"

namespace specbranch {

WorkspaceSize sampling_probs_workspace(std::int64_t num_rows, std::int64_t vocab_size) {
  const auto tile_bytes = num_tiles(vocab_size) * static_cast<std::int64_t>(sizeof(TileStats));
  const auto row_bytes = static_cast<std::int64_t>(sizeof(RowLaw)) + tile_bytes;
  return {num_rows * row_bytes, 1 + 2 * num_rows};
}

void launch_sampling_probs(const SamplingProbsParams& p, const Workspace& workspace,
                           CudaStream stream) {
  const std::int64_t rows = p.logits.num_rows;
  if (rows == 0) return;
  const dim3 grid(2 * rows * blocks_of_row(p.logits.vocab_size));
  auto* laws = reinterpret_cast<RowLaw*>(workspace.scratch);
  auto* tiles = reinterpret_cast<TileStats*>(laws + rows);
  const ProbsTickets tickets{workspace.tickets, workspace.tickets + 1,
                             workspace.tickets + 1 + rows};
  dispatch_element(p.logits.dtype, [&](auto element) {
    launch_kernel("sampling_probs", sampling_probs_kernel<decltype(element)>,
                  {grid, dim3(kRowThreads)}, stream, p, tiles, laws, tickets);
  });
}

}  // namespace specbranch
