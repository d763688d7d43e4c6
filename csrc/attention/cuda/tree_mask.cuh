#pragma once

#include <cstdint>

#include "attention/params.h"
#include "common/cuda/prims.cuh"
#include "common/ragged_rows.h"

namespace specbranch {

inline constexpr int kTreeMaskThreads = 128;

/// A thread writes one row: it climbs the ancestors of the row's node, which come in descending
/// order, and so fills the row's words from the last to the first. Grid [ceil(T / threads)].
static __global__ void tree_mask_kernel(const __grid_constant__ TreeMaskParams p) {
  const std::int64_t row = std::int64_t{blockIdx.x} * kTreeMaskThreads + threadIdx.x;
  if (row >= p.row_indptr[p.batch_size]) return;

  const int b = request_of(p.row_indptr, static_cast<int>(p.batch_size), row);
  const std::int32_t* parents = p.parents + b * p.parents_stride;
  std::int32_t* words = p.ancestor_mask + row * p.mask_stride;
  std::int64_t ancestor = p.n_nodes[b] - (p.row_indptr[b + 1] - row);
  std::int32_t depth = -1;
  for (std::int64_t word = p.num_words - 1; word >= 0; --word) {
    std::uint32_t bits = 0;
    for (; ancestor >= word * 32; ancestor = parents[ancestor]) {
      bits |= 1u << (ancestor % 32);
      ++depth;
    }
    words[word] = static_cast<std::int32_t>(bits);
  }
  p.depth[row] = depth;
}

}  // namespace specbranch
