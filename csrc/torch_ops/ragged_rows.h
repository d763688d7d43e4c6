#pragma once

#include <cstdint>
#include <string>

#include "torch_ops/tensor_arg.h"

namespace specbranch {

/// Where the rows of each of B requests begin, of T that stand one after another: int32 [B + 1].
inline const std::int32_t* check_row_indptr(OpCheck& op, const Tensor& row_indptr) {
  op.bind("B+1", op.size("B") + 1);
  return op.tensor("row_indptr", row_indptr, {kInt32}, {"B+1"}).data<std::int32_t>();
}

/// Requires that row_indptr [B + 1] goes from 0, never down, to num_rows or less. For CPU tensors.
inline void require_row_indptr(const OpCheck& op, const std::int32_t* row_indptr,
                               std::int64_t batch_size, std::int64_t num_rows) {
  op.require(row_indptr[0] == 0, "row_indptr", "0 at [0]", row_indptr[0]);
  for (std::int64_t b = 0; b < batch_size; ++b) {
    if (row_indptr[b] <= row_indptr[b + 1]) continue;
    op.fail("row_indptr", "values that do not decrease",
            std::to_string(row_indptr[b + 1]) + " after " + std::to_string(row_indptr[b]));
  }
  op.require(row_indptr[batch_size] <= num_rows, "row_indptr",
             "at most T=" + std::to_string(num_rows) + " rows", row_indptr[batch_size]);
}

/// Requires that a request's rows may be its last nodes. For CPU tensors.
inline void require_nodes_of_rows(const OpCheck& op, std::int64_t rows, std::int64_t n_nodes,
                                  std::int64_t b) {
  op.require(
      rows <= n_nodes, "row_indptr",
      "at most n_nodes=" + std::to_string(n_nodes) + " rows for request " + std::to_string(b),
      rows);
}

}  // namespace specbranch
