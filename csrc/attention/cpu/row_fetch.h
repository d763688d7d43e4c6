#pragma once

#include <algorithm>
#include <cstdint>

#include "common/cpu/kernels.h"

namespace specbranch::SPECBRANCH_CPU_NS {

/// Brings rows of some heads close, a few lines a step, while a loop computes on other rows. A
/// processor reads ahead well only where memory is walked in order, and a cache holds the heads of
/// a position side by side, so all heads of a row are fetched before the next row.
template <class T>
class RowFetch {
 public:
  static constexpr std::int64_t kLine = 64 / sizeof(T);  // elements

  struct Heads {
    std::int64_t begin;
    std::int64_t end;
    std::int64_t stride;  // elements from one to the next
    std::int64_t dim;
  };

  RowFetch(const T* const* rows, std::int64_t num_rows, const Heads& heads,
           std::int64_t lines_per_step)
      : rows_(rows),
        last_row_(num_rows - 1),
        heads_(heads),
        lines_per_step_(lines_per_step),
        head_(heads.begin) {}

  // Forced, because GCC drops calls to functions that do nothing but prefetch.
  [[gnu::always_inline]] void step() {
    for (std::int64_t i = 0; i < lines_per_step_; ++i) fetch_line();
  }

 private:
  // Close, but not into the innermost cache, where it would displace what the loop works on.
  [[gnu::always_inline]] void fetch_line() {
    __builtin_prefetch(rows_[row_] + head_ * heads_.stride + d_, 0, 2);
    d_ += kLine;
    if (d_ < heads_.dim) return;
    d_ = 0;
    if (++head_ < heads_.end) return;
    head_ = heads_.begin;
    row_ = std::min(row_ + 1, last_row_);
  }

  const T* const* rows_;
  std::int64_t last_row_;
  Heads heads_;
  std::int64_t lines_per_step_;
  std::int64_t row_ = 0;
  std::int64_t head_;
  std::int64_t d_ = 0;
};

/// In the place of a RowFetch where nothing comes next.
struct NoFetch {
  void step() {}
};

}  // namespace specbranch::SPECBRANCH_CPU_NS
