#pragma once

#include <cstdint>

#include "attention/cpu/online_softmax.h"
#include "attention/cpu/plan.h"
#include "attention/params.h"

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
        queries_(p.workspace),
        partials_(queries_ + p.num_kv_heads * layout_.queries_size),
        chunk_indptr_(reinterpret_cast<std::int32_t*>(
            partials_ + p.num_kv_heads * layout_.max_chunks * layout_.partial_size)) {}

  const ScratchLayout& layout() const { return layout_; }

  /// The query rows of all requests under KV head h.
  float* queries(std::int64_t h) const { return queries_ + h * layout_.queries_size; }

  /// The results of each row's `chunk`-th chunk.
  Partial partial(std::int64_t h, std::int64_t chunk) const {
    float* out = partials_ + (h * layout_.max_chunks + chunk) * layout_.partial_size;
    return {out, reinterpret_cast<RowState*>(out + layout_.rows * layout_.padded_dim)};
  }

  /// [B + 1]: of all requests' chunks, numbered one after another, the first of each request.
  std::int32_t* chunk_indptr() const { return chunk_indptr_; }

 private:
  ScratchLayout layout_;
  float* queries_;
  float* partials_;
  std::int32_t* chunk_indptr_;
};

}  // namespace specbranch::SPECBRANCH_CPU_NS
