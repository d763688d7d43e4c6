#include <algorithm>
#include <cstdint>

#include "attention/params.h"
#include "common/cpu_kernels.h"

namespace specbranch::SPECBRANCH_CPU_NS {
namespace {

void mask_request(const TreeMaskParams& p, std::int64_t b) {
  const std::int32_t* parents = p.parents + b * p.parents_stride;
  std::int32_t* mask = p.ancestor_mask + b * p.mask_batch_stride;
  std::int32_t* depth = p.depth + b * p.depth_stride;
  for (std::int64_t node = 0; node < p.max_nodes; ++node) {
    std::int32_t* row = mask + node * p.mask_row_stride;
    std::fill_n(row, p.num_words, 0);
    depth[node] = 0;
    if (node >= p.n_nodes[b]) continue;
    if (const std::int64_t parent = parents[node]; parent >= 0) {
      std::copy_n(mask + parent * p.mask_row_stride, p.num_words, row);
      depth[node] = depth[parent] + 1;
    }
    row[node / 32] |= static_cast<std::int32_t>(1u << (node % 32));
  }
}

}  // namespace

void tree_mask(const TreeMaskParams& p) {
  for (std::int64_t b = 0; b < p.batch_size; ++b) mask_request(p, b);
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
