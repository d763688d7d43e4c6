#pragma once

#include <cmath>
#include <cstdint>

#include "common/cuda/last_block.cuh"
#include "sampling/cuda/row_law.cuh"
#include "sampling/cuda/turns.cuh"

// Each row is read twice: for its law, and for the probabilities, which can only be written when
// the law is known. Both are in one launch. Blocks take turns in the order in which they start: in
// the first half of the turns they read, and the last block of a row finds its law; in the second
// half they write, each as soon as its row's law is there, while other rows may still be searched.
//
//   turns    | row 0: blocks 0, 1, ... | row 1 | ... || row 0: blocks 0, 1, ... | row 1 | ...
//            |            read                       ||           write
namespace specbranch {

/// Counters of a launch, all 0 before and after.
struct ProbsTickets {
  unsigned* turns;    // [1]
  unsigned* arrived;  // [R] blocks that have read
  unsigned* laws;     // [R] HandOver
};

/// What a block has of the work: a part of a row.
struct RowPart {
  std::int64_t row;
  std::int64_t tile;  // of this warp

  __device__ RowPart(unsigned turn, unsigned blocks_of_row)
      : row(turn / blocks_of_row),
        tile(std::int64_t{turn % blocks_of_row} * kRowWarps + warp_index()) {}
};

template <class T>
__device__ Row<T> row_of(const SamplingProbsParams& p, std::int64_t r) {
  return row_at<T>(p.logits.data, r * p.logits.stride, p.logits.vocab_size);
}

/// First half: each warp reads a tile, and the last block of the row finds its law.
template <class T>
__device__ void read_part(const SamplingProbsParams& p, const RowPart& part, unsigned blocks_of_row,
                          TileStats* all_tiles, RowLaw* laws, const ProbsTickets& tickets) {
  const Row<T> row = row_of<T>(p, part.row);
  const Tile tile(row, part.tile);
  const Filter filter = p.filters[part.row];
  const std::int64_t count = num_tiles(row.vocab_size);
  TileStats* tiles = all_tiles + part.row * count;
  if (tile.index < count) {
    const Law law = law_of(tile.max(), filter.temperature);
    const float weight = tile_weight(tile, law);
    if (lane_index() == 0) tiles[tile.index] = {law.max, weight, 0.0f};
  }
  if (!is_last_block(tickets.arrived + part.row, blocks_of_row)) return;

  const RowLaw law = find_law(row, tiles, filter);
  if (threadIdx.x != 0) return;
  laws[part.row] = law;
  HandOver(tickets.laws + part.row).give();
}

/// Second half: each warp writes a tile of probabilities.
template <class T>
__device__ void write_part(const SamplingProbsParams& p, const RowPart& part,
                           unsigned blocks_of_row, const RowLaw* laws,
                           const ProbsTickets& tickets) {
  const LoadingTile<T> loading(row_of<T>(p, part.row), part.tile);
  HandOver(tickets.laws + part.row).take(blocks_of_row);
  const RowLaw law = laws[part.row];
  const Tile tile(loading);

  const MutableRow probs(p.probs + part.row * p.probs_stride, p.logits.vocab_size);
#pragma unroll
  for (int group = 0; group < kGroups; ++group) {
    const std::int64_t first = first_token(tile.index, group);
    float four[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      four[i] = law.law.exists() ? law.weight(tile.x[group][i], first + i) * law.scale : NAN;
    }
    probs.store(first, four);
  }
}

/// Grid [2 * R * blocks_of_row(V)], one block a multiprocessor.
template <class T>
__global__ void __launch_bounds__(kRowThreads, kRowBlocksPerSm)
    sampling_probs_kernel(const __grid_constant__ SamplingProbsParams p,
                          TileStats* all_tiles,  // [R, num_tiles(V)]
                          RowLaw* laws,          // [R]
                          const __grid_constant__ ProbsTickets tickets) {
  const auto blocks = static_cast<unsigned>(blocks_of_row(p.logits.vocab_size));
  const unsigned half = gridDim.x / 2;
  const unsigned turn = take_turn(tickets.turns, gridDim.x);
  if (turn < half) {
    read_part<T>(p, RowPart(turn, blocks), blocks, all_tiles, laws, tickets);
  } else {
    write_part<T>(p, RowPart(turn - half, blocks), blocks, laws, tickets);
  }
}

}  // namespace specbranch
