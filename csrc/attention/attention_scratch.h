#pragma once

#include <cstdint>

#include "attention/online_softmax.h"
#include "attention/params.h"
#include "attention/plan.h"

namespace specbranch::SPECBRANCH_CPU_NS {

/// Result of some keys under one KV head: rows of sums of weighted values, and each row's softmax
/// so far.
struct Partial {
  float* out;
  RowState* states;
};
static_assert(sizeof(RowState) == 2 * sizeof(float), "ScratchLayout counts two floats a row");

/// Where the parts of the workspace lie.
class AttentionScratch {
 public:
  explicit AttentionScratch(const BranchAttentionParams& p)
      : layout_(p),
        num_kv_heads_(p.num_kv_heads),
        queries_(p.workspace),
        partials_(p.workspace + p.batch_size * p.num_kv_heads * layout_.queries_size) {}

  const ScratchLayout& layout() const { return layout_; }

  float* queries(std::int64_t b, std::int64_t h) const {
    return queries_ + (b * num_kv_heads_ + h) * layout_.queries_size;
  }

  Partial partial(std::int64_t b, std::int64_t h, std::int64_t chunk) const {
    const std::int64_t head = b * num_kv_heads_ + h;
    float* out = partials_ + (head * layout_.max_chunks + chunk) * layout_.partial_size;
    return {out, reinterpret_cast<RowState*>(out + layout_.rows * layout_.padded_dim)};
  }

 private:
  ScratchLayout layout_;
  std::int64_t num_kv_heads_;
  float* queries_;
  float* partials_;
};

}  // namespace specbranch::SPECBRANCH_CPU_NS
