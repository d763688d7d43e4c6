#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace specbranch {

/// Strides, in elements, of a [P, S, Hkv, D] cache. D is contiguous.
struct KvStrides {
  std::int64_t page;
  std::int64_t slot;
  std::int64_t head;

  /// What divides them all, for powers of two, divides these bits.
  std::int64_t bits() const { return page | slot | head; }
};

/// Strides, in elements, of rows [T, H, D], D contiguous, or [T, H].
struct RowStrides {
  std::int64_t row;
  std::int64_t head;

  std::int64_t bits() const { return row | head; }
};

/// block_table[B, M]: logical position i of request b is slot i % page_size of page
/// block_table[b, i / page_size].
struct BlockTable {
  const std::int32_t* pages;
  std::int64_t row_stride;
  std::int64_t page_size;

  SPECBRANCH_HOST_DEVICE_INLINE std::int64_t page(std::int64_t b, std::int64_t position) const {
    return pages[b * row_stride + position / page_size];
  }

  /// Offset in elements of a position's first head.
  SPECBRANCH_HOST_DEVICE_INLINE std::int64_t offset(std::int64_t b, std::int64_t position,
                                                    const KvStrides& strides) const {
    return page(b, position) * strides.page + position % page_size * strides.slot;
  }
};

}  // namespace specbranch
