#pragma once

#include <cstdint>

#include "attention/params.h"
#include "common/cuda_prims.cuh"

namespace specbranch {

inline constexpr int kTreeMaskThreads = 128;

/// A thread writes one node's row: it climbs the node's ancestors, which come in descending order,
/// and so fills the row's words from the last to the first. Grid [ceil(N / threads), B].
static __global__ void tree_mask_kernel(const __grid_constant__ TreeMaskParams p) {
  const std::int64_t b = blockIdx.y;
  const std::int64_t node = std::int64_t{blockIdx.x} * kTreeMaskThreads + threadIdx.x;
  if (node >= p.max_nodes) return;

  const std::int32_t* parents = p.parents + b * p.parents_stride;
  std::int32_t* row = p.ancestor_mask + b * p.mask_batch_stride + node * p.mask_row_stride;
  std::int64_t ancestor = node < p.n_nodes[b] ? node : -1;
  std::int32_t path_nodes = 0;
  for (std::int64_t word = p.num_words - 1; word >= 0; --word) {
    std::uint32_t bits = 0;
    for (; ancestor >= word * 32; ancestor = parents[ancestor]) {
      bits |= 1u << (ancestor % 32);
      ++path_nodes;
    }
    row[word] = static_cast<std::int32_t>(bits);
  }
  p.depth[b * p.depth_stride + node] = path_nodes > 0 ? path_nodes - 1 : 0;
}

}  // namespace specbranch
