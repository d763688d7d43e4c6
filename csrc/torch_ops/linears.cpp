#include "torch_ops/linears.h"

#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "common/check.h"
#include "common/cpu/kernels.h"
#include "torch_ops/quantized_weight.h"

// Of torch's C interface for compiled models, beside its stable ABI, whose calls cannot carry the
// list of scalars that the first takes. Weak: a torch without oneDNN lacks it.
extern "C" {
[[gnu::weak]] AOTITorchError aoti_torch_cpu__linear_pointwise(
    AtenTensorHandle x, AtenTensorHandle weight, AtenTensorHandle* bias, const char* attribute,
    const double** scalars, std::int64_t num_scalars, const char** algorithm,
    AtenTensorHandle* result);
}

namespace specbranch {
namespace {

// Fewer rows take another oneDNN kernel, slower and rounding differently.
constexpr std::int64_t kLeastRows = 4;
// Many rows, those of a prompt, are padded to multiples of these: oneDNN keeps what it generates
// for each number of rows, some 0.6 MiB a layer shape, and a server meets every length of prompt.
constexpr std::int64_t kRowStep = 32;

ScalarType scalar_type_of(DType dtype) {
  return dtype == DType::kFloat32 ? kFloat32 : dtype == DType::kFloat16 ? kFloat16 : kBFloat16;
}

Tensor view_of(const void* data, std::initializer_list<std::int64_t> sizes,
               std::initializer_list<std::int64_t> strides, ScalarType type) {
  const torch::stable::Device cpu(torch::headeronly::DeviceType::CPU);
  return torch::stable::from_blob(const_cast<void*>(data), sizes, strides, cpu, type);
}

std::int64_t rows_of_call(std::int64_t num_rows) {
  if (num_rows <= kRowStep) return std::max(num_rows, kLeastRows);
  return (num_rows + kRowStep - 1) / kRowStep * kRowStep;
}

}  // namespace

PackedLinear::PackedLinear(Tensor weight, std::optional<Tensor> bias, DType dtype,
                           std::int64_t in_features, std::int64_t out_features,
                           std::int64_t max_rows)
    : Linear(dtype, in_features, out_features),
      weight_(std::move(weight)),
      bias_(std::move(bias)),
      max_rows_(max_rows) {
  if (aoti_torch_cpu__linear_pointwise == nullptr) {
    throw_bad_argument("PackedLinear", "weight", "a torch with oneDNN", "one without");
  }
}

void PackedLinear::multiply(const void* x, std::int64_t num_rows, const RowsOf& out) const {
  const std::size_t element = size_of(dtype());
  const std::size_t row_bytes = out_features() * element;
  for (std::int64_t first = 0; first < num_rows; first += max_rows_) {
    const std::int64_t count = std::min(num_rows - first, max_rows_);
    const char* given = static_cast<const char*>(x) + first * in_features() * element;
    const Tensor result = product(padded(given, count));
    const char* from = static_cast<const char*>(result.data_ptr());
    char* to = static_cast<char*>(out.data) + first * out.stride * element;
    for (std::int64_t row = 0; row < count; ++row) {
      std::memcpy(to + row * out.stride * element, from + row * row_bytes, row_bytes);
    }
  }
}

Tensor PackedLinear::padded(const void* x, std::int64_t num_rows) const {
  const ScalarType type = scalar_type_of(dtype());
  const Tensor given = view_of(x, {num_rows, in_features()}, {in_features(), 1}, type);
  const std::int64_t wanted = rows_of_call(num_rows);
  if (wanted == num_rows) return given;
  const Tensor rows = new_empty(given, {wanted, in_features()}, type);
  const std::size_t row_bytes = in_features() * size_of(dtype());
  char* data = static_cast<char*>(rows.data_ptr());
  std::memcpy(data, x, num_rows * row_bytes);
  std::memset(data + num_rows * row_bytes, 0, (wanted - num_rows) * row_bytes);
  return rows;
}

Tensor PackedLinear::product(const Tensor& x) const {
  AtenTensorHandle result = nullptr;
  AtenTensorHandle bias = bias_ ? bias_->get() : nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_cpu__linear_pointwise(
      x.get(), weight_.get(), bias_ ? &bias : nullptr, "none", nullptr, 0, nullptr, &result));
  return Tensor(result);
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
