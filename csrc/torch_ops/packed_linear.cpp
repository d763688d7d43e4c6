#include <torch/csrc/stable/library.h>

#include <cstdint>
#include <optional>

#include "common/cpu/kernels.h"
#include "linear/params.h"
#include "torch_ops/packed_weight.h"
#include "torch_ops/tensor_arg.h"

namespace specbranch {
namespace {

/// All but the output. Binds R and N.
PackedLinearParams check_product(OpCheck& op, const Tensor& x_, const Tensor& weight,
                                 std::int64_t out_features, const std::optional<Tensor>& bias_) {
  if (!x_.is_cpu()) op.fail("x", "a tensor on cpu, whose layout the weights have", "cuda");
  const TensorArg x = op.tensor("x", x_, kFloating, {"R", "K"});
  PackedLinearParams params{};
  params.x = x.data();
  params.dtype = x.dtype();
  params.x_stride = x.stride(0);
  params.num_rows = op.size("R");
  params.weight = check_packed_weight(op, weight, x.scalar_type(), out_features);
  const auto bias = op.optional("bias", bias_, {kFloat32}, {"N"});
  if (bias) params.bias = bias->data<float>();
  return params;
}

void multiply_into(OpCheck& op, PackedLinearParams params, ScalarType dtype, const Tensor& out_) {
  const TensorArg out = op.output("out", out_, {dtype}, {"R", "N"});
  params.out = out.data();
  params.out_stride = out.stride(0);
  cpu_kernels().packed_linear(params);
}

void packed_linear_out(const Tensor& x, const Tensor& weight, std::int64_t out_features,
                       const std::optional<Tensor>& bias, const Tensor& out) {
  OpCheck op("packed_linear");
  const PackedLinearParams params = check_product(op, x, weight, out_features, bias);
  multiply_into(op, params, x.scalar_type(), out);
}

Tensor packed_linear(const Tensor& x, const Tensor& weight, std::int64_t out_features,
                     const std::optional<Tensor>& bias) {
  OpCheck op("packed_linear");
  const PackedLinearParams params = check_product(op, x, weight, out_features, bias);
  const Tensor out = new_empty(x, {op.size("R"), out_features}, x.scalar_type());
  multiply_into(op, params, x.scalar_type(), out);
  return out;
}

}  // namespace
}  // namespace specbranch

STABLE_TORCH_LIBRARY_IMPL(specbranch, CPU, library) {
  library.impl("packed_linear", TORCH_BOX(&specbranch::packed_linear));
  library.impl("packed_linear_out", TORCH_BOX(&specbranch::packed_linear_out));
}

#if defined(SPECBRANCH_WITH_CUDA)
// Refused in words of ours.
STABLE_TORCH_LIBRARY_IMPL(specbranch, CUDA, library) {
  library.impl("packed_linear", TORCH_BOX(&specbranch::packed_linear));
  library.impl("packed_linear_out", TORCH_BOX(&specbranch::packed_linear_out));
}
#endif
