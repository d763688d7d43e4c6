#pragma once

#include <cstdint>

#include "common/dtype.h"
#include "kv_cache/layout.h"

namespace specbranch {

/// tree_mask: parents of a draft block -> the ancestors (and self) as bits, and the depth, of each
/// request's last row_indptr[b + 1] - row_indptr[b] nodes.
struct TreeMaskParams {
  const std::int32_t* parents;     // [B, N]
  const std::int32_t* n_nodes;     // [B]
  const std::int32_t* row_indptr;  // [B + 1]
  std::int32_t* ancestor_mask;     // [T, W]
  std::int32_t* depth;             // [T]
  std::int64_t parents_stride;
  std::int64_t mask_stride;
  std::int64_t batch_size;
  std::int64_t num_rows;  // T
  std::int64_t num_words;
};

inline constexpr std::int64_t kMaxHeadDim = 256;

/// branch_attention: each row sees the committed context of its request and the nodes of its mask.
struct BranchAttentionParams {
  DType dtype;
  const void* q;
  const void* k_cache;
  const void* v_cache;
  RowStrides q_strides;
  KvStrides k_strides;
  KvStrides v_strides;
  BlockTable block_table;
  const std::int32_t* context_lens;   // [B]
  const std::int32_t* n_nodes;        // [B]
  const std::int32_t* row_indptr;     // [B + 1]
  const std::int32_t* ancestor_mask;  // [T, W]
  std::int64_t mask_stride;
  std::int64_t batch_size;
  std::int64_t num_rows;  // T
  std::int64_t num_qo_heads;
  std::int64_t num_kv_heads;
  std::int64_t head_dim;
  std::int64_t max_positions;  // of one request: M * S
  float scale;
  float softcap;                // 0: none
  std::int64_t window;          // 0: none
  std::int64_t split_size = 0;  // keys of a CUDA split; 0: by shapes and device

  void* out = nullptr;
  float* lse = nullptr;
  RowStrides out_strides{};
  RowStrides lse_strides{};
  float* workspace = nullptr;  // scratch, as large as plan.h (CPU) or split_plan.h (CUDA) says
};

}  // namespace specbranch
