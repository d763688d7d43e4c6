#pragma once

#include <algorithm>
#include <cstdint>

#include "attention/params.h"
#include "common/cpu/kernels.h"

// How branch_attention divides its work. A row's keys are cut into tiles and chunks of tiles at
// fixed positions on its path, whatever the lengths, the window and the other rows are. So its
// result has the bits that plain decoding gives it, in any batch, on any number of threads.
namespace specbranch::SPECBRANCH_CPU_NS {

/// Keys that are scored at once: one bit each in a 64-bit visibility word.
inline constexpr std::int64_t kTileKeys = 64;
inline constexpr std::int64_t kChunkTiles = 8;

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// Chunks that begin before a position.
constexpr std::int64_t num_chunks(std::int64_t num_positions) {
  return ceil_div(num_positions, kChunkTiles * kTileKeys);
}

/// Workspace of one call, in floats: the queries as fp32 rows, then a partial result per chunk
/// (unnormalised output rows, then a pair for each row: the base of its weights, which may lie
/// below its largest score, and their sum), then an integer for each request and one more.
struct ScratchLayout {
  std::int64_t group_size;    // query heads of a KV head
  std::int64_t rows;          // rows of a KV head: T * group_size
  std::int64_t padded_dim;    // D rounded up to whole vectors of any width
  std::int64_t max_chunks;    // of one request
  std::int64_t queries_size;  // floats of the query rows of one KV head
  std::int64_t partial_size;  // floats of one partial result

  explicit constexpr ScratchLayout(const BranchAttentionParams& p)
      : group_size(p.num_qo_heads / p.num_kv_heads),
        rows(p.num_rows * group_size),
        padded_dim(ceil_div(p.head_dim, 16) * 16),
        max_chunks(num_chunks(p.max_positions)),
        queries_size(rows * padded_dim),
        partial_size(rows * (padded_dim + 2)) {}
};

/// Floats of scratch that one call needs: a function of shapes alone.
constexpr std::int64_t branch_attention_workspace(const BranchAttentionParams& p) {
  const ScratchLayout layout(p);
  return p.num_kv_heads * (layout.queries_size + layout.max_chunks * layout.partial_size) +
         p.batch_size + 1;
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
