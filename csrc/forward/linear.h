#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "common/dtype.h"

namespace specbranch {

/// Data of a model in rows of a stride.
struct RowsOf {
  void* data;
  std::int64_t stride;  // in elements
};

/// A product of rows with one matrix of weights, which is kept in one way or another. The bits of a
/// row's result depend on that row alone.
class Linear {
 public:
  Linear(DType dtype, std::int64_t in_features, std::int64_t out_features)
      : dtype_(dtype), in_features_(in_features), out_features_(out_features) {}
  virtual ~Linear() = default;

  /// out [num_rows, out_features] = x [num_rows, in_features], contiguous, times the weights, plus
  /// the bias if there is one. May be called from several threads at once.
  virtual void multiply(const void* x, std::int64_t num_rows, const RowsOf& out) const = 0;

  DType dtype() const { return dtype_; }
  std::int64_t in_features() const { return in_features_; }
  std::int64_t out_features() const { return out_features_; }

 private:
  DType dtype_;
  std::int64_t in_features_;
  std::int64_t out_features_;
};

/// Several products of the same rows, their results side by side.
class SideBySide : public Linear {
 public:
  /// parts: at least one, all of one dtype and of as many inputs, or std::invalid_argument.
  explicit SideBySide(std::vector<std::shared_ptr<const Linear>> parts);

  void multiply(const void* x, std::int64_t num_rows, const RowsOf& out) const override;

 private:
  std::vector<std::shared_ptr<const Linear>> parts_;
};

}  // namespace specbranch
