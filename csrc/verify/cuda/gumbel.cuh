#pragma once

#include <cstdint>

#include "common/cuda/last_block.cuh"
#include "sampling/cuda/sample.cuh"
#include "verify/cuda/request.cuh"

namespace specbranch {

/// The gumbel coupling: each submitted row has its token, whatever the walk; the last block of a
/// row finds it and the child that carries it, and the last of a request walks along these.
/// Grid [max(T, B), blocks_of_row(V)], one block a multiprocessor.
template <class T>
__global__ void __launch_bounds__(kRowThreads, kRowBlocksPerSm)
    verify_gumbel_kernel(const __grid_constant__ VerifyTreeParams p,
                         TileStats* all_tiles,         // [T, num_tiles(V)]
                         Decision* all_decisions,      // [T]
                         unsigned* row_tickets,        // [T]
                         unsigned* request_tickets) {  // [B]
  write_if_idle(p);
  const std::int64_t row_index = blockIdx.x;
  const std::int32_t b = request_of_row(p, row_index);
  if (b == p.batch_size) return;
  const Request request(p, b);
  if (request.n_nodes() == 0) return;  // idle, with rows for nothing

  const auto node = static_cast<std::int32_t>(row_index - request.first_row());
  const Row<T> row = row_of<T>(p, row_index);
  const LoadingTile<T> tile(row, tile_of_warp());  // while the tree is read
  const Filter filter = p.filters[b];
  const ColumnWords words{.source = request.noise(NoiseStream::kGumbel, request.depth(node))};
  TileStats* tiles = all_tiles + row_index * num_tiles(p.vocab_size);
  write_stats(row, tile, filter.temperature, words, filter.top_p < 1.0f, tiles);
  if (!is_last_block(row_tickets + row_index, gridDim.y)) return;

  const std::int32_t token = sample_row(row, tiles, filter, words);
  const Decision decision{token, request.find_child(node, token, AnyChild{})};
  if (threadIdx.x == 0) all_decisions[row_index] = decision;
  if (!is_last_block(request_tickets + b, request.n_rows())) return;

  const Decision* decisions = all_decisions + request.first_row();
  walk(request, [&](std::int32_t at, std::int32_t) { return decisions[at]; });
}

}  // namespace specbranch
