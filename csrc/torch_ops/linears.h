#pragma once

#include <cstdint>
#include <optional>

#include "forward/linear.h"
#include "linear/params.h"
#include "torch_ops/tensor_arg.h"

// Products by the weights of torch's tensors, without Python and without torch's dispatcher.
namespace specbranch {

/// Weights in ordinary numbers, as `packed_linear` reads them.
class PackedLinear : public Linear {
 public:
  /// weight: [ceil(out_features / 32), in_features, 32], of the rows' dtype. bias: fp32.
  /// Throws std::invalid_argument for another weight or bias.
  PackedLinear(Tensor weight, std::int64_t out_features, std::optional<Tensor> bias);

  void multiply(const void* x, std::int64_t num_rows, const RowsOf& out) const override;

 private:
  Tensor weight_;
  std::optional<Tensor> bias_;
  PackedWeight packed_;
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
