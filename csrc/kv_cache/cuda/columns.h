#pragma once

#include <cstdint>

#include "kv_cache/layout.h"

// Tokens of a KV cache as rows of columns: the vectors (of 16 bytes where alignment allows it) of
// all heads of a token. Copy kernels give each column to a thread.
namespace specbranch {

inline constexpr int kMaxColumnThreads = 128;
inline constexpr int kWideColumn = 16;  // bytes

SPECBRANCH_HOST_DEVICE constexpr std::int64_t num_columns(std::int64_t num_kv_heads,
                                                          std::int64_t head_bytes,
                                                          int column_bytes) {
  return num_kv_heads * (head_bytes / column_bytes);
}

/// Threads of a block: whole warps, no more than there are columns.
constexpr int column_threads(std::int64_t columns) {
  return columns < kMaxColumnThreads ? static_cast<int>((columns + 31) / 32 * 32)
                                     : kMaxColumnThreads;
}

template <class Strides>
bool is_wide(const void* data, const Strides& strides, std::int64_t element_size) {
  const std::int64_t bits = reinterpret_cast<std::intptr_t>(data) | strides.bits() * element_size;
  return bits % kWideColumn == 0;
}

/// Offset in bytes of a column from the start of its token.
SPECBRANCH_HOST_DEVICE inline std::int64_t column_offset(std::int64_t column,
                                                         std::int64_t head_bytes, int column_bytes,
                                                         std::int64_t head_stride,
                                                         std::int64_t element_size) {
  const std::int64_t columns_per_head = head_bytes / column_bytes;
  return column / columns_per_head * head_stride * element_size +
         column % columns_per_head * column_bytes;
}

}  // namespace specbranch
