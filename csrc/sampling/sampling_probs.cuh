#pragma once

#include <cmath>
#include <cstdint>

#include "common/last_block.cuh"
#include "sampling/row_law.cuh"

namespace specbranch {

/// Each warp reads a tile; the last block of a row finds its law. Grid [R, blocks_of_row(V)].
template <class T>
__global__ void __launch_bounds__(kRowThreads, 1)
    row_laws_kernel(const __grid_constant__ SamplingProbsParams p,
                    TileStats* all_tiles,     // [R, num_tiles(V)]
                    RowLaw* laws,             // [R]
                    unsigned* row_tickets) {  // [R]
  const std::int64_t r = blockIdx.x;
  const std::int64_t vocab_size = p.logits.vocab_size;
  const Row<T> row = row_at<T>(p.logits.data, r * p.logits.stride, vocab_size);
  const Filter filter = p.filters[r];
  TileStats* tiles = all_tiles + r * num_tiles(vocab_size);
  const std::int64_t index = tile_of_warp();
  if (index < num_tiles(vocab_size)) {
    const Tile tile(row, index);
    const Law law = law_of(tile.max(), filter.temperature);
    const float weight = tile_weight(tile, law);
    if (lane_index() == 0) tiles[index] = {law.max, weight, 0.0f};
  }
  if (!is_last_block(row_tickets + r, gridDim.y)) return;

  const RowLaw law = find_law(row, tiles, filter);
  if (threadIdx.x == 0) laws[r] = law;
}

/// Each warp writes a tile of probabilities. Grid [R, blocks_of_row(V)].
template <class T>
__global__ void __launch_bounds__(kRowThreads)
    write_probs_kernel(const __grid_constant__ SamplingProbsParams p, const RowLaw* laws) {
  const std::int64_t r = blockIdx.x;
  const std::int64_t vocab_size = p.logits.vocab_size;
  const std::int64_t index = tile_of_warp();
  if (index >= num_tiles(vocab_size)) return;
  const Tile tile(row_at<T>(p.logits.data, r * p.logits.stride, vocab_size), index);
  const RowLaw law = laws[r];
  MutableRow probs(p.probs + r * p.probs_stride, vocab_size);
#pragma unroll
  for (int group = 0; group < kGroups; ++group) {
    const std::int64_t first = first_token(index, group);
    float four[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      four[i] = law.law.exists() ? law.weight(tile.x[group][i], first + i) * law.scale : NAN;
    }
    probs.store(first, four);
  }
}

}  // namespace specbranch
