#pragma once

#include <cstdint>
#include <optional>

#include "forward/linear.h"
#include "torch_ops/tensor_arg.h"

// Products of the kinds that torch has, without Python and without torch's dispatcher.
namespace specbranch {

/// A product by one of torch's functions, whose result is copied to its place.
class TorchLinear : public Linear {
 public:
  using Linear::Linear;

  void multiply(const void* x, std::int64_t num_rows, const RowsOf& out) const override;

 protected:
  /// x [n, in_features] times the weights, plus the bias.
  virtual Tensor product(const Tensor& x) const = 0;
  /// How many of the rows that are left go into one call.
  virtual std::int64_t rows_of_call(std::int64_t rows_left) const { return rows_left; }
  /// How many rows such a call has; those beyond its own are zeros.
  virtual std::int64_t padded_rows(std::int64_t num_rows) const { return num_rows; }

 private:
  Tensor rows_of(const void* x, std::int64_t num_rows) const;
};

/// fp32 or bf16 weights as mkldnn._reorder_linear_weight lays them out.
class PackedLinear : public TorchLinear {
 public:
  /// max_rows: up to how many rows a product has the bits that it has for four.
  /// Throws std::invalid_argument where torch has no oneDNN.
  PackedLinear(Tensor weight, std::optional<Tensor> bias, ScalarType dtype,
               std::int64_t in_features, std::int64_t out_features, std::int64_t max_rows);

 private:
  Tensor product(const Tensor& x) const override;
  std::int64_t rows_of_call(std::int64_t rows_left) const override;
  std::int64_t padded_rows(std::int64_t num_rows) const override;

  Tensor weight_;
  std::optional<Tensor> bias_;
  std::int64_t max_rows_;
};

/// bf16 rows by weights as _convert_weight_to_int4pack_for_cpu lays them out.
class Int4Linear : public TorchLinear {
 public:
  Int4Linear(Tensor weight, Tensor scale_and_zero, std::int64_t group_size,
             std::optional<Tensor> bias, std::int64_t in_features, std::int64_t out_features);

 private:
  Tensor product(const Tensor& x) const override;

  Tensor weight_;
  Tensor scale_and_zero_;
  std::int64_t group_size_;
  std::optional<Tensor> bias_;
};

/// bf16 rows by levels int8 [out, in] with a scale bf16 [out].
class Int8Linear : public TorchLinear {
 public:
  Int8Linear(Tensor levels, Tensor scale, std::optional<Tensor> bias);

 private:
  Tensor product(const Tensor& x) const override;

  Tensor levels_;
  Tensor scale_;
  std::optional<Tensor> bias_;
};

}  // namespace specbranch
