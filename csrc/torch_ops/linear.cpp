#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/cpu/kernels.h"
#include "linear/params.h"
#include "torch_ops/quantized_weight.h"
#include "torch_ops/tensor_arg.h"

namespace specbranch {
namespace {

void require_cpu(const OpCheck& op, std::string_view argument, const Tensor& tensor) {
  if (!tensor.is_cpu()) op.fail(argument, "a tensor on cpu, the only place for few bits", "cuda");
}

/// All but the output. Binds R and N.
QuantizedLinearParams check_product(OpCheck& op, const Tensor& x_, const Tensor& weight_,
                                    std::int64_t out_features, const std::optional<Tensor>& bias_) {
  require_cpu(op, "x", x_);
  const TensorArg x = op.tensor("x", x_, kFloating, {"R", "K"});
  const std::int64_t inputs = op.size("K");
  op.require(inputs > 0 && inputs % kGroupInputs == 0, "x", "whole groups of 32 inputs", inputs);
  op.bind("K/32", inputs / kGroupInputs);
  QuantizedLinearParams params{};
  params.x = x.data();
  params.dtype = x.dtype();
  params.x_stride = x.stride(0);
  params.num_rows = op.size("R");
  params.weight = check_quantized_weight(op, "weight", weight_);
  const std::int64_t most = params.weight.out_features;
  const std::int64_t least = std::max<std::int64_t>(most - kTileOutputs + 1, 0);
  op.require(least <= out_features && out_features <= most, "out_features",
             std::to_string(most) + " or up to 15 fewer", out_features);
  params.weight.out_features = out_features;
  op.bind("N", out_features);
  const auto bias = op.optional("bias", bias_, {kFloat32}, {"N"});
  if (bias) params.bias = bias->data<float>();
  return params;
}

void multiply_into(OpCheck& op, QuantizedLinearParams params, ScalarType dtype,
                   const Tensor& out_) {
  const TensorArg out = op.output("out", out_, {dtype}, {"R", "N"});
  params.out = out.data();
  params.out_stride = out.stride(0);
  cpu_kernels().quantized_linear(params);
}

void quantized_linear_out(const Tensor& x, const Tensor& weight, std::int64_t out_features,
                          const std::optional<Tensor>& bias, const Tensor& out) {
  OpCheck op("quantized_linear");
  const QuantizedLinearParams params = check_product(op, x, weight, out_features, bias);
  multiply_into(op, params, x.scalar_type(), out);
}

Tensor quantized_linear(const Tensor& x, const Tensor& weight, std::int64_t out_features,
                        const std::optional<Tensor>& bias) {
  OpCheck op("quantized_linear");
  const QuantizedLinearParams params = check_product(op, x, weight, out_features, bias);
  const Tensor out = new_empty(x, {op.size("R"), out_features}, x.scalar_type());
  multiply_into(op, params, x.scalar_type(), out);
  return out;
}

QuantizedRowsParams check_rows(OpCheck& op, const Tensor& weight, const Tensor& ids_) {
  require_cpu(op, "weight", weight);
  QuantizedRowsParams params{};
  params.weight = check_quantized_weight(op, "weight", weight);
  op.bind("K", params.weight.in_features);
  params.ids = op.tensor("ids", ids_, {kInt32}, {"R"}).data<std::int32_t>();
  params.num_rows = op.size("R");
  for (std::int64_t i = 0; i < params.num_rows; ++i) {
    const std::int64_t id = params.ids[i];
    require_entry(op, 0 <= id && id < params.weight.out_features, "ids", "rows of the weight", id,
                  i);
  }
  return params;
}

void read_rows_into(OpCheck& op, QuantizedRowsParams params, const Tensor& out_) {
  const TensorArg out = op.output("out", out_, {kFloat32}, {"R", "K"});
  params.out = out.data();
  params.dtype = out.dtype();
  params.out_stride = out.stride(0);
  params.scale = 1;
  cpu_kernels().quantized_rows(params);
}

void quantized_rows_out(const Tensor& weight, const Tensor& ids, const Tensor& out) {
  OpCheck op("quantized_rows");
  const QuantizedRowsParams params = check_rows(op, weight, ids);
  read_rows_into(op, params, out);
}

Tensor quantized_rows(const Tensor& weight, const Tensor& ids) {
  OpCheck op("quantized_rows");
  const QuantizedRowsParams params = check_rows(op, weight, ids);
  const Tensor out = new_empty(weight, {op.size("R"), op.size("K")}, kFloat32);
  read_rows_into(op, params, out);
  return out;
}

}  // namespace
}  // namespace specbranch

STABLE_TORCH_LIBRARY_IMPL(specbranch, CPU, library) {
  library.impl("quantized_linear", TORCH_BOX(&specbranch::quantized_linear));
  library.impl("quantized_linear_out", TORCH_BOX(&specbranch::quantized_linear_out));
  library.impl("quantized_rows", TORCH_BOX(&specbranch::quantized_rows));
  library.impl("quantized_rows_out", TORCH_BOX(&specbranch::quantized_rows_out));
}

#if defined(SPECBRANCH_WITH_CUDA)
// Refused in words of ours.
STABLE_TORCH_LIBRARY_IMPL(specbranch, CUDA, library) {
  library.impl("quantized_linear", TORCH_BOX(&specbranch::quantized_linear));
  library.impl("quantized_linear_out", TORCH_BOX(&specbranch::quantized_linear_out));
  library.impl("quantized_rows", TORCH_BOX(&specbranch::quantized_rows));
  library.impl("quantized_rows_out", TORCH_BOX(&specbranch::quantized_rows_out));
}
#endif
