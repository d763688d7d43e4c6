#pragma once

#include <cstdint>
#include <optional>

#include "forward/linear.h"
#include "linear/params.h"
#include "torch_ops/tensor_arg.h"

// Products by the weights of torch's tensors, without Python and without torch's dispatcher.
namespace specbranch {

/// fp32 or bf16 weights as mkldnn._reorder_linear_weight lays them out, multiplied by torch.
class PackedLinear : public Linear {
 public:
  /// max_rows: up to how many rows a product has the bits that it has for four.
  /// Throws std::invalid_argument where torch has no oneDNN.
  PackedLinear(Tensor weight, std::optional<Tensor> bias, DType dtype, std::int64_t in_features,
               std::int64_t out_features, std::int64_t max_rows);

  void multiply(const void* x, std::int64_t num_rows, const RowsOf& out) const override;

 private:
  Tensor product(const Tensor& x) const;
  /// The rows, and as many of zeros behind them as a call wants.
  Tensor padded(const void* x, std::int64_t num_rows) const;

  Tensor weight_;
  std::optional<Tensor> bias_;
  std::int64_t max_rows_;
};

/// Weights in 4 or 8 bits, as `quantized_linear` reads them.
class QuantizedLinear : public Linear {
 public:
  /// weight: uint8 [ceil(out_features / 16), in_features / 32, bytes of a group]. bias: fp32.
  /// dtype: of the rows. Throws std::invalid_argument for another weight or bias.
  QuantizedLinear(Tensor weight, std::int64_t out_features, std::optional<Tensor> bias,
                  DType dtype);

  void multiply(const void* x, std::int64_t num_rows, const RowsOf& out) const override;

 private:
  Tensor weight_;
  std::optional<Tensor> bias_;
  QuantizedWeight packed_;
};

}  // namespace specbranch
