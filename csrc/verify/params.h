#pragma once

#include <cstdint>

#include "sampling/params.h"

namespace specbranch {

enum class VerifyStatus : std::int32_t { kOk = 0, kBadLogits = 1 };

/// verify_tree: the way of the target through the submitted tree of each request. The submitted
/// nodes come first, and each has a row. A request without nodes or rows is idle.
struct VerifyTreeParams {
  const std::int32_t* candidates;  // [B, N] token of each node
  const std::int32_t* parents;     // [B, N]
  const std::int32_t* n_nodes;     // [B]
  const std::int32_t* row_indptr;  // [B + 1] row_indptr[b] + i is the row of node i of request b
  const void* target_logits;       // [T, V]
  DType logits_dtype;
  Filters filters;               // [B]
  const std::int64_t* seed;      // [B]
  const std::int32_t* position;  // [B] of the token after the root
  const float* draft_probs;      // [T, V] or null: gumbel coupling
  const std::uint8_t* draw;      // [B, N] order in which a child was drawn, 0: matched
  AllowedTokens allowed;         // of each row

  std::int32_t* path;        // [B, N] accepted nodes, root first, then -1
  std::int32_t* path_len;    // [B]
  std::int32_t* next_token;  // [B]
  std::int32_t* winner;      // [B] child that carries next_token, or -1
  std::int32_t* status;      // [B] VerifyStatus

  std::int64_t candidates_stride;
  std::int64_t parents_stride;
  std::int64_t logits_stride;
  std::int64_t probs_stride;
  std::int64_t draw_stride;
  std::int64_t path_stride;
  std::int64_t batch_size;
  std::int64_t max_nodes;
  std::int64_t num_rows;
  std::int64_t vocab_size;
};

}  // namespace specbranch
