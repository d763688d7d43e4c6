#pragma once

#include <cstdint>

#include "common/cuda/last_block.cuh"
#include "sampling/cuda/draw.cuh"

namespace specbranch {

/// The token of one row, by the block that came last to it; -1 for a row without a law.
template <class T>
__device__ std::int32_t sample_row(const Row<T>& row, const TileStats* tiles, const Filter& filter,
                                   const ColumnWords& words) {
  const float max = row_max(tiles, num_tiles(row.vocab_size));
  const Law law = law_of(max, filter.temperature);
  if (!law.exists()) return -1;
  const Cutoff cutoff = find_cutoff(row, tiles, law, filter);
  return law.is_greedy ? id_of(cutoff.lowest) : draw_token(row, tiles, law, cutoff, words);
}

/// Each warp reads a tile; the last block of a row finds its token. Grid [R, blocks_of_row(V)], one
/// block a multiprocessor.
template <class T>
__global__ void __launch_bounds__(kRowThreads, kRowBlocksPerSm)
    sample_kernel(const __grid_constant__ SampleParams p,
                  TileStats* all_tiles,     // [R, num_tiles(V)]
                  unsigned* row_tickets) {  // [R]
  const std::int64_t r = blockIdx.x;
  const std::int64_t vocab_size = p.logits.vocab_size;
  const Row<T> row = row_at<T>(p.logits.data, r * p.logits.stride, vocab_size, p.allowed.row(r));
  const LoadingTile<T> tile(row, tile_of_warp());
  const Filter filter = p.filters[r];
  const ColumnWords words{.source = {philox_key(p.seed[r]),
                                     static_cast<std::uint32_t>(p.position[r]),
                                     NoiseStream::kGumbel}};
  TileStats* tiles = all_tiles + r * num_tiles(vocab_size);
  write_stats(row, tile, filter.temperature, words, filter.top_p < 1.0f, tiles);
  if (!is_last_block(row_tickets + r, gridDim.y)) return;

  const std::int32_t token = sample_row(row, tiles, filter, words);
  if (threadIdx.x == 0) p.ids[r] = token;
}

}  // namespace specbranch
