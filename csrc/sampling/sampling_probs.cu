#include "sampling/sampling_probs.cuh"

#include "common/cuda_launch.cuh"
#include "sampling/dispatch.cuh"
#include "sampling/launch.h"

namespace specbranch {

WorkspaceSize sampling_probs_workspace(const SamplingProbsParams& p) {
  const std::int64_t rows = p.logits.num_rows;
  const auto tile_bytes = num_tiles(p.logits.vocab_size) * sizeof(TileStats);
  return {rows * static_cast<std::int64_t>(sizeof(RowLaw) + tile_bytes), rows};
}

void launch_sampling_probs(const SamplingProbsParams& p, const Workspace& workspace,
                           CudaStream stream) {
  if (p.logits.num_rows == 0) return;
  const dim3 grid(p.logits.num_rows, blocks_of_row(p.logits.vocab_size));
  const LaunchShape shape{grid, dim3(kRowThreads)};
  auto* laws = reinterpret_cast<RowLaw*>(workspace.scratch);
  auto* tiles = reinterpret_cast<TileStats*>(laws + p.logits.num_rows);
  dispatch_element(p.logits.dtype, [&](auto element) {
    using T = decltype(element);
    launch_kernel("sampling_probs", row_laws_kernel<T>, shape, stream, p, tiles, laws,
                  workspace.tickets);
    launch_kernel("sampling_probs", write_probs_kernel<T>, shape, stream, p, laws);
  });
}

}  // namespace specbranch
