#pragma once

#include <cstdint>
#include <string>

#include "torch_ops/tensor_arg.h"

namespace specbranch {

/// Where the rows of each of B requests begin, of T that stand one after another: int32 [B + 1],
/// request b's are row_indptr[b] to row_indptr[b + 1], and those from row_indptr[B] on are padding.
inline const std::int32_t* check_row_indptr(OpCheck& op, const Tensor& row_indptr) {
  op.bind("B+1", op.size("B") + 1);
  return op.tensor("row_indptr", row_indptr, {kInt32}, {"B+1"}).data<std::int32_t>();
}

/// For values of a CPU tensor.
inline void check_row_indptr_values(const OpCheck& op, const std::int32_t* row_indptr,
                                    std::int64_t batch_size, std::int64_t num_rows) {
  require_entry(op, row_indptr[0] == 0, "row_indptr", "0 first", row_indptr[0], 0);
  const std::string rising = "rising values up to T=" + std::to_string(num_rows);
  for (std::int64_t b = 0; b < batch_size; ++b) {
    const std::int32_t begin = row_indptr[b], end = row_indptr[b + 1];
    require_entry(op, begin <= end && end <= num_rows, "row_indptr", rising, end, b + 1);
  }
}

}  // namespace specbranch
