#include "torch_ops/linears.h"

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/headeronly/util/BFloat16.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/check.h"

// Of torch's C interface for compiled models, beside its stable ABI, whose calls cannot carry the
// list of scalars that the first takes. Weak: a torch without oneDNN lacks it.
extern "C" {
[[gnu::weak]] AOTITorchError aoti_torch_cpu__linear_pointwise(
    AtenTensorHandle x, AtenTensorHandle weight, AtenTensorHandle* bias, const char* attribute,
    const double** scalars, std::int64_t num_scalars, const char** algorithm,
    AtenTensorHandle* result);
[[gnu::weak]] AOTITorchError aoti_torch_cpu__weight_int4pack_mm_cpu_tensor(
    AtenTensorHandle x, AtenTensorHandle weight, AtenTensorHandle group_size,
    AtenTensorHandle scale_and_zero, AtenTensorHandle* result);
[[gnu::weak]] AOTITorchError aoti_torch_cpu__weight_int8pack_mm(AtenTensorHandle x,
                                                                AtenTensorHandle levels,
                                                                AtenTensorHandle scale,
                                                                AtenTensorHandle* result);
}

namespace specbranch {
namespace {

// Fewer rows take another oneDNN kernel, slower and rounding differently.
constexpr std::int64_t kLeastRows = 4;
// Many rows, those of a prompt, are padded to multiples of these: oneDNN keeps what it generates
// for each number of rows, some 0.6 MiB a layer shape, and a server meets every length of prompt.
constexpr std::int64_t kRowStep = 32;

DType dtype_of(ScalarType type) { return type == kFloat32 ? DType::kFloat32 : DType::kBFloat16; }

ScalarType scalar_type_of(DType dtype) { return dtype == DType::kFloat32 ? kFloat32 : kBFloat16; }

Tensor view_of(const void* data, std::initializer_list<std::int64_t> sizes,
               std::initializer_list<std::int64_t> strides, ScalarType type) {
  const torch::stable::Device cpu(torch::headeronly::DeviceType::CPU);
  return torch::stable::from_blob(const_cast<void*>(data), sizes, strides, cpu, type);
}

void add_bias(const Tensor& rows, const std::optional<Tensor>& bias) {
  if (!bias) return;
  using T = c10::BFloat16;
  T* row = static_cast<T*>(rows.data_ptr());
  const T* added = static_cast<const T*>(bias->data_ptr());
  for (std::int64_t r = 0; r < rows.size(0); ++r, row += rows.size(1)) {
    for (std::int64_t i = 0; i < rows.size(1); ++i) row[i] = row[i] + added[i];
  }
}

}  // namespace

void TorchLinear::multiply(const void* x, std::int64_t num_rows, const RowsOf& out) const {
  const std::size_t element = size_of(dtype());
  const std::size_t row_bytes = out_features() * element;
  for (std::int64_t first = 0; first < num_rows;) {
    const std::int64_t count = rows_of_call(num_rows - first);
    const char* given = static_cast<const char*>(x) + first * in_features() * element;
    const Tensor result = product(rows_of(given, count));
    const char* from = static_cast<const char*>(result.data_ptr());
    char* to = static_cast<char*>(out.data) + first * out.stride * element;
    for (std::int64_t row = 0; row < count; ++row) {
      std::memcpy(to + row * out.stride * element, from + row * row_bytes, row_bytes);
    }
    first += count;
  }
}

Tensor TorchLinear::rows_of(const void* x, std::int64_t num_rows) const {
  const ScalarType type = scalar_type_of(dtype());
  const Tensor given = view_of(x, {num_rows, in_features()}, {in_features(), 1}, type);
  const std::int64_t padded = padded_rows(num_rows);
  if (padded == num_rows) return given;
  const Tensor rows = new_empty(given, {padded, in_features()}, type);
  const std::size_t row_bytes = in_features() * size_of(dtype());
  char* data = static_cast<char*>(rows.data_ptr());
  std::memcpy(data, x, num_rows * row_bytes);
  std::memset(data + num_rows * row_bytes, 0, (padded - num_rows) * row_bytes);
  return rows;
}

PackedLinear::PackedLinear(Tensor weight, std::optional<Tensor> bias, ScalarType dtype,
                           std::int64_t in_features, std::int64_t out_features,
                           std::int64_t max_rows)
    : TorchLinear(dtype_of(dtype), in_features, out_features),
      weight_(std::move(weight)),
      bias_(std::move(bias)),
      max_rows_(max_rows) {
  if (aoti_torch_cpu__linear_pointwise == nullptr) {
    throw_bad_argument("packed_linear", "weight", "a torch with oneDNN", "one without");
  }
}

Tensor PackedLinear::product(const Tensor& x) const {
  AtenTensorHandle result = nullptr;
  AtenTensorHandle bias = bias_ ? bias_->get() : nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_cpu__linear_pointwise(
      x.get(), weight_.get(), bias_ ? &bias : nullptr, "none", nullptr, 0, nullptr, &result));
  return Tensor(result);
}

std::int64_t PackedLinear::rows_of_call(std::int64_t rows_left) const {
  return std::min(rows_left, max_rows_);
}

std::int64_t PackedLinear::padded_rows(std::int64_t num_rows) const {
  if (num_rows <= kRowStep) return std::max(num_rows, kLeastRows);
  return (num_rows + kRowStep - 1) / kRowStep * kRowStep;
}

Int4Linear::Int4Linear(Tensor weight, Tensor scale_and_zero, std::int64_t group_size,
                       std::optional<Tensor> bias, std::int64_t in_features,
                       std::int64_t out_features)
    : TorchLinear(DType::kBFloat16, in_features, out_features),
      weight_(std::move(weight)),
      scale_and_zero_(std::move(scale_and_zero)),
      group_size_(group_size),
      bias_(std::move(bias)) {}

Tensor Int4Linear::product(const Tensor& x) const {
  AtenTensorHandle result = nullptr;
  const Tensor group_size = view_of(&group_size_, {1}, {1}, kInt64);
  TORCH_ERROR_CODE_CHECK(aoti_torch_cpu__weight_int4pack_mm_cpu_tensor(
      x.get(), weight_.get(), group_size.get(), scale_and_zero_.get(), &result));
  const Tensor rows(result);
  add_bias(rows, bias_);
  return rows;
}

Int8Linear::Int8Linear(Tensor levels, Tensor scale, std::optional<Tensor> bias)
    : TorchLinear(DType::kBFloat16, levels.size(1), levels.size(0)),
      levels_(std::move(levels)),
      scale_(std::move(scale)),
      bias_(std::move(bias)) {}

Tensor Int8Linear::product(const Tensor& x) const {
  AtenTensorHandle result = nullptr;
  TORCH_ERROR_CODE_CHECK(
      aoti_torch_cpu__weight_int8pack_mm(x.get(), levels_.get(), scale_.get(), &result));
  const Tensor rows(result);
  add_bias(rows, bias_);
  return rows;
}

}  // namespace specbranch
