#include <algorithm>

#include "common/cuda_launch.cuh"
#include "sampling/dispatch.cuh"
#include "verify/gumbel.cuh"
#include "verify/launch.h"
#include "verify/rejection.cuh"

namespace specbranch {
namespace {

/// Also a batch without rows needs a block for each (idle) request.
std::int64_t rows_of_request(const VerifyTreeParams& p) {
  return std::max<std::int64_t>(p.max_rows, 1);
}

std::int64_t rows_of_batch(const VerifyTreeParams& p) { return p.batch_size * rows_of_request(p); }

std::int64_t tile_bytes(const VerifyTreeParams& p) {
  return rows_of_batch(p) * num_tiles(p.vocab_size) * static_cast<std::int64_t>(sizeof(TileStats));
}

}  // namespace

WorkspaceSize verify_tree_workspace(const VerifyTreeParams& p) {
  const auto bytes_of_row = static_cast<std::int64_t>(sizeof(RowLaw) + sizeof(Decision));
  return {rows_of_batch(p) * bytes_of_row + tile_bytes(p), rows_of_batch(p) + p.batch_size};
}

void launch_verify_tree(const VerifyTreeParams& p, const Workspace& workspace, CudaStream stream) {
  if (p.batch_size == 0) return;
  const dim3 grid(rows_of_request(p), blocks_of_row(p.vocab_size), p.batch_size);
  const LaunchShape shape{grid, dim3(kRowThreads)};
  // What has the largest alignment comes first.
  auto* laws = reinterpret_cast<RowLaw*>(workspace.scratch);
  auto* decisions = reinterpret_cast<Decision*>(laws + rows_of_batch(p));
  auto* tiles = reinterpret_cast<TileStats*>(decisions + rows_of_batch(p));
  unsigned* row_tickets = workspace.tickets;
  unsigned* request_tickets = row_tickets + rows_of_batch(p);
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
