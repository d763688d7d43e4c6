#pragma once

#include <cstdint>

#include "common/host_device.h"

// Rows of all requests stand one after another: those of request b from row_indptr[b] to
// row_indptr[b + 1]. Rows from row_indptr[B] on are padding.
namespace specbranch {

/// The last i in [0, count) for which f holds. f holds for 0 and for all up to that one.
template <class F>
SPECBRANCH_HOST_DEVICE_INLINE int last_where(int count, const F& f) {
  int last = 0;
  while (count - last > 1) {
    const int middle = last + (count - last) / 2;
    if (f(middle)) {
      last = middle;
    } else {
      count = middle;
    }
  }
  return last;
}

/// The request that a row, which is no padding, belongs to.
SPECBRANCH_HOST_DEVICE_INLINE int request_of(const std::int32_t* row_indptr, int batch_size,
                                             std::int64_t row) {
  return last_where(batch_size, [&](int b) { return row_indptr[b] <= row; });
}

}  // namespace specbranch
