#include <algorithm>

#include "common/cuda/elements.cuh"
#include "common/cuda/launch.cuh"
#include "verify/cuda/gumbel.cuh"
#include "verify/cuda/rejection.cuh"
#include "verify/launch.h"

namespace specbranch {

WorkspaceSize verify_tree_workspace(std::int64_t batch_size, std::int64_t num_rows,
                                    std::int64_t vocab_size) {
  const auto tile_bytes = num_tiles(vocab_size) * static_cast<std::int64_t>(sizeof(TileStats));
  const auto row_bytes = static_cast<std::int64_t>(sizeof(RowLaw) + sizeof(Decision)) + tile_bytes;
  return {num_rows * row_bytes, num_rows + batch_size};
}

void launch_verify_tree(const VerifyTreeParams& p, const Workspace& workspace, CudaStream stream) {
  if (p.batch_size == 0) return;
  const dim3 grid(std::max(p.num_rows, p.batch_size), blocks_of_row(p.vocab_size));
  const LaunchShape shape{grid, dim3(kRowThreads)};
  // What has the largest alignment comes first.
  auto* laws = reinterpret_cast<RowLaw*>(workspace.scratch);
  auto* decisions = reinterpret_cast<Decision*>(laws + p.num_rows);
  auto* tiles = reinterpret_cast<TileStats*>(decisions + p.num_rows);
  unsigned* row_tickets = workspace.tickets;
  unsigned* request_tickets = row_tickets + p.num_rows;
  dispatch_element(p.logits_dtype, [&](auto element) {
    using T = decltype(element);
    if (p.draft_probs == nullptr) {
      launch_kernel("verify_tree", verify_gumbel_kernel<T>, shape, stream, p, tiles, decisions,
                    row_tickets, request_tickets);
    } else {
      launch_kernel("verify_tree", verify_rejection_kernel<T>, shape, stream, p, tiles, laws,
                    decisions, row_tickets, request_tickets);
    }
  });
}

}  // namespace specbranch
