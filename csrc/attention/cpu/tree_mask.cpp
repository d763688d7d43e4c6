#include <algorithm>
#include <cstdint>

#include "attention/params.h"
#include "common/cpu/kernels.h"

namespace specbranch::SPECBRANCH_CPU_NS {
namespace {

void mask_request(const TreeMaskParams& p, std::int64_t b) {
  const std::int32_t* parents = p.parents + b * p.parents_stride;
  const std::int64_t row_of_root = p.row_indptr[b + 1] - p.n_nodes[b];  // if it had one
  for (std::int64_t row = p.row_indptr[b]; row < p.row_indptr[b + 1]; ++row) {
    std::int32_t* words = p.ancestor_mask + row * p.mask_stride;
    std::fill_n(words, p.num_words, 0);
    std::int32_t depth = -1;
    std::int64_t node = row - row_of_root;
    do {
      words[node / 32] |= static_cast<std::int32_t>(1u << (node % 32));
      node = parents[node];
      ++depth;
    } while (node >= 0 && row_of_root + node < p.row_indptr[b]);
    if (node >= 0) {  // an ancestor with a row, which has the rest
      const std::int64_t above = row_of_root + node;
      for (std::int64_t w = 0; w <= node / 32; ++w) {
        words[w] |= p.ancestor_mask[above * p.mask_stride + w];
      }
      depth += 1 + p.depth[above];
    }
    p.depth[row] = depth;
  }
}

}  // namespace

void tree_mask(const TreeMaskParams& p) {
  for (std::int64_t b = 0; b < p.batch_size; ++b) mask_request(p, b);
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
