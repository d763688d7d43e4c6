#pragma once

#include <cstdint>

#include "common/last_block.cuh"
#include "sampling/sample.cuh"
#include "verify/request.cuh"
#include "verify/residual.cuh"

namespace specbranch {

/// A sampled child, and its place in the order of the draws.
struct DrawnChild {
  std::int32_t draw, node;
};

inline constexpr std::int32_t kNoDraw = 256;  // draws are numbered in eight bits

/// The child of `node` that was drawn next after `previous_draw`; its draw is kNoDraw if none was.
__device__ inline DrawnChild next_drawn(const Request& request, const std::uint8_t* draw,
                                        std::int32_t node, std::int32_t previous_draw) {
  std::int64_t next = std::int64_t{kNoDraw} << 32;
  for (std::int32_t i = node + 1 + threadIdx.x; i < request.n_nodes; i += kRowThreads) {
    if (request.parents[i] != node || draw[i] <= previous_draw) continue;
    next = Smallest{}(next, std::int64_t{draw[i]} << 32 | i);
  }
  next = block_reduce(next, Smallest{});
  return {static_cast<std::int32_t>(next >> 32), static_cast<std::int32_t>(next)};
}

/// One visited node: the sampled children in the order of their draws, then a token of the law that
/// is left, which may be a matched child.
template <class T>
__device__ Decision reject(const VerifyTreeParams& p, const Request& request, std::int64_t b,
                           std::int32_t node, std::int32_t depth, const Row<T>& row,
                           const TileStats* tiles, const RowLaw& law) {
  SPECBRANCH_SHARED(failures, typename Residual<T>::Failure[Residual<T>::kMaxFailures]);
  const std::uint8_t* draw = p.draw + b * p.draw_stride;
  const Row<float> draft(p.draft_probs + b * p.probs_batch_stride + node * p.probs_row_stride,
                         p.vocab_size);
  const NoiseSource accept = request.noise(NoiseStream::kAccept, depth);
  const ColumnWords residual_words{.source = request.noise(NoiseStream::kResidual, depth)};
  const auto is_matched = [&](std::int32_t i) { return draw[i] == 0; };

  DrawnChild child = next_drawn(request, draw, node, 0);
  std::int32_t token;
  if (child.draw == kNoDraw) {
    token = draw_token(row, tiles, law.law, law.cutoff, residual_words);
  } else {
    Residual<T> residual(row, tiles, law, draft, failures);
    for (;;) {
      const std::int32_t candidate = request.candidates[child.node];
      if (residual.passes(candidate, accept.uniform(static_cast<std::uint32_t>(candidate)))) {
        return {candidate, child.node};
      }
      residual.fail(candidate);
      child = next_drawn(request, draw, node, child.draw);
      if (child.draw == kNoDraw || !residual.normalise()) break;
    }
    token = residual.draw(residual_words);
  }
  return {token, request.find_child(node, token, is_matched)};
}

/// The rejection coupling: the last block of a row finds its law, and the last of a request walks,
/// reading again what the walk visits. Grid [rows, blocks_of_row(V), B].
template <class T>
__global__ void __launch_bounds__(kRowThreads, 1)
    verify_rejection_kernel(const __grid_constant__ VerifyTreeParams p,
                            TileStats* all_tiles,         // [B, rows, num_tiles(V)]
                            RowLaw* all_laws,             // [B, rows]
                            unsigned* row_tickets,        // [B, rows]
                            unsigned* request_tickets) {  // [B]
  const std::int64_t b = blockIdx.z;
  const auto node = static_cast<std::int32_t>(blockIdx.x);
  const Request request(p, b);
  if (request.n_nodes == 0) return write_idle(request, node);
  if (!request.is_submitted(node)) return;

  const std::int64_t row_index = b * gridDim.x + node;
  const Row<T> row = row_of<T>(p, b, node);
  const Filter filter = p.filters[b];
  // A node without sampled children draws by this noise.
  const ColumnWords words{.source = request.noise(NoiseStream::kResidual, request.depth(node))};
  TileStats* tiles = all_tiles + row_index * num_tiles(p.vocab_size);
  write_stats(row, tile_of_warp(), filter.temperature, words, true, tiles);
  if (!is_last_block(row_tickets + row_index, gridDim.y)) return;

  const RowLaw law = find_law(row, tiles, filter);
  if (threadIdx.x == 0) all_laws[row_index] = law;
  if (!is_last_block(request_tickets + b, request.n_rows)) return;

  walk(request, [&](std::int32_t at, std::int32_t depth) -> Decision {
    const std::int64_t visited = b * gridDim.x + at;
    const RowLaw law = all_laws[visited];
    if (!law.law.exists()) return {kNoLaw, -1};
    const Row<T> row = row_of<T>(p, b, at);
    const TileStats* tiles = all_tiles + visited * num_tiles(p.vocab_size);
    if (!law.law.is_greedy) return reject(p, request, b, at, depth, row, tiles, law);
    const std::int32_t token = id_of(law.cutoff.lowest);
    return {token, request.find_child(at, token, [](std::int32_t) { return true; })};
  });
}

}  // namespace specbranch
