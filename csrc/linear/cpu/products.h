#pragma once

#include <cstdint>
#include <memory>

#include "common/cpu/kernels.h"
#include "linear/params.h"

// The two steps of quantized_linear, for those who share rows between products or have threads of
// their own.
namespace specbranch::SPECBRANCH_CPU_NS {

/// Room for activations [R, K] in 8 bits: x is about level * scale, level from -127 to 127.
class QuantizedRows {
 public:
  QuantizedRows(std::int64_t num_rows, std::int64_t in_features);

  std::int64_t num_rows() const { return num_rows_; }
  std::int64_t stride() const { return in_features_; }
  std::int8_t* levels(std::int64_t row) const { return levels_.get() + row * in_features_; }
  /// Of each group of a row.
  float* scales(std::int64_t row) const { return scales_.get() + row * num_groups(); }
  /// Of the levels of each group of a row.
  float* sums(std::int64_t row) const { return scales(num_rows_ + row); }
  std::int64_t num_groups() const { return in_features_ / kGroupInputs; }

 private:
  std::int64_t num_rows_;
  std::int64_t in_features_;
  std::unique_ptr<std::int8_t[]> levels_;
  std::unique_ptr<float[]> scales_;  // and sums
};

/// Rows `begin` to `end` of p.x. A group with a value that is not finite gets the scale NaN.
void quantize_rows(const QuantizedLinearParams& p, std::int64_t begin, std::int64_t end,
                   const QuantizedRows& rows);

/// The outputs of tiles `begin` to `end` for all rows, into p.out. Reads nothing of p.x.
void multiply_tiles(const QuantizedLinearParams& p, const QuantizedRows& rows, std::int64_t begin,
                    std::int64_t end);

}  // namespace specbranch::SPECBRANCH_CPU_NS
