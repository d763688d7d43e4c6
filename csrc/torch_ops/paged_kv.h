#pragma once

#include <cstdint>
#include <string>

#include "kv_cache/layout.h"
#include "torch_ops/tensor_arg.h"

namespace specbranch {

inline KvStrides kv_strides(const TensorArg& tensor) {
  return {tensor.stride(0), tensor.stride(1), tensor.stride(2)};
}

inline RowStrides row_strides(const TensorArg& tensor) {
  return {tensor.stride(0), tensor.stride(1)};
}

/// A block_table argument [B, M] over a cache of sizes P and S.
inline BlockTable block_table(const TensorArg& tensor, const OpCheck& op) {
  return {tensor.data<const std::int32_t>(), tensor.stride(0), op.size("S")};
}

/// Requires that the pages of a request's positions [begin, end) exist. For CPU tensors.
inline void require_pages(const OpCheck& op, const BlockTable& table, std::int64_t b,
                          std::int64_t begin, std::int64_t end) {
  const std::int64_t capacity = op.size("M") * op.size("S");
  if (begin >= end) return;
  if (end > capacity) {
    op.fail("block_table", std::to_string(end) + " positions for request " + std::to_string(b),
            "M * S = " + std::to_string(capacity));
  }
  for (std::int64_t i = begin / table.page_size; i <= (end - 1) / table.page_size; ++i) {
    const std::int32_t page = table.pages[b * table.row_stride + i];
    if (page >= 0 && page < op.size("P")) continue;
    op.fail("block_table", "pages in [0, P=" + std::to_string(op.size("P")) + ")",
            std::to_string(page) + " at [" + std::to_string(b) + ", " + std::to_string(i) + "]");
  }
}

/// Requires low <= value <= high of an entry of an index tensor. For CPU tensors.
inline void require_in_range(const OpCheck& op, std::string_view argument, std::int64_t value,
                             std::int64_t low, std::int64_t high, std::int64_t b) {
  if (low <= value && value <= high) return;
  op.fail(argument, "values in [" + std::to_string(low) + ", " + std::to_string(high) + "]",
          std::to_string(value) + " for request " + std::to_string(b));
}

}  // namespace specbranch
