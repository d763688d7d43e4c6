#include "torch_ops/linears.h"

#include <string>
#include <utility>

#include "common/cpu/kernels.h"
#include "torch_ops/packed_weight.h"
#include "torch_ops/quantized_weight.h"

namespace specbranch {

PackedLinear::PackedLinear(Tensor weight, std::int64_t out_features, std::optional<Tensor> bias)
    : Linear(dtype_of(weight.scalar_type()), weight.size(1), out_features),
      weight_(std::move(weight)),
      bias_(std::move(bias)) {
  OpCheck op("PackedLinear");
  packed_ = check_packed_weight(op, weight_, weight_.scalar_type(), out_features);
  op.optional("bias", bias_, {kFloat32}, {"N"});
}

void PackedLinear::multiply(const void* x, std::int64_t num_rows, const RowsOf& out) const {
  cpu_kernels().packed_linear({
      .x = x,
      .out = out.data,
      .dtype = dtype(),
      .x_stride = in_features(),
      .out_stride = out.stride,
      .num_rows = num_rows,
      .weight = packed_,
      .bias = bias_ ? static_cast<const float*>(bias_->data_ptr()) : nullptr,
  });
}

QuantizedLinear::QuantizedLinear(Tensor weight, std::int64_t out_features,
                                 std::optional<Tensor> bias, DType dtype)
    : Linear(dtype, weight.size(1) * kGroupInputs, out_features),
      weight_(std::move(weight)),
      bias_(std::move(bias)) {
  OpCheck op("QuantizedLinear");
  packed_ = check_quantized_weight(op, "weight", weight_);
  op.require(out_features <= packed_.out_features, "out_features",
             "at most " + std::to_string(packed_.out_features), out_features);
  packed_.out_features = out_features;
  op.bind("N", out_features);
  op.optional("bias", bias_, {kFloat32}, {"N"});
}

void QuantizedLinear::multiply(const void* x, std::int64_t num_rows, const RowsOf& out) const {
  cpu_kernels().quantized_linear({
      .x = x,
      .out = out.data,
      .dtype = dtype(),
      .x_stride = in_features(),
      .out_stride = out.stride,
      .num_rows = num_rows,
      .weight = packed_,
      .bias = bias_ ? static_cast<const float*>(bias_->data_ptr()) : nullptr,
  });
}

}  // namespace specbranch
