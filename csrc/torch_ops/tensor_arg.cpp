#include "torch_ops/tensor_arg.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>

#include "common/check.h"

namespace specbranch {
namespace {

std::string name_of(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Byte:
      return "uint8";
    case ScalarType::Int:
      return "int32";
    case ScalarType::Long:
      return "int64";
    case ScalarType::Half:
      return "float16";
    case ScalarType::Float:
      return "float32";
    case ScalarType::Double:
      return "float64";
    case ScalarType::BFloat16:
      return "bfloat16";
    default:
      return torch::headeronly::toString(dtype);
  }
}

std::string name_of(const torch::stable::Device& device) {
  std::string name = device.is_cpu() ? "cpu" : device.is_cuda() ? "cuda" : "another device";
  if (!device.is_cpu()) name += ":" + std::to_string(device.index());
  return name;
}

template <class Range, class Text>
std::string join(const Range& range, std::string_view separator, Text text) {
  std::string joined;
  for (const auto& item : range) {
    if (!joined.empty()) joined += separator;
    joined += text(item);
  }
  return joined;
}

std::string list(const torch::headeronly::IntHeaderOnlyArrayRef& numbers) {
  return "[" + join(numbers, ", ", [](std::int64_t n) { return std::to_string(n); }) + "]";
}

std::string describe(const Tensor& tensor) {
  return name_of(tensor.scalar_type()) + " " + list(tensor.sizes());
}

// True only where no two elements share memory: every stride steps over all smaller dimensions.
bool has_distinct_elements(const Tensor& tensor) {
  const auto sizes = tensor.sizes();
  const auto strides = tensor.strides();
  std::vector<std::size_t> order(sizes.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return strides[a] < strides[b]; });
  std::int64_t extent = 1;
  for (const std::size_t dim : order) {
    if (sizes[dim] == 0) return true;
    if (sizes[dim] == 1) continue;
    if (strides[dim] < extent) return false;
    extent += (sizes[dim] - 1) * strides[dim];
  }
  return true;
}

bool has_contiguous_last_dim(const Tensor& tensor) {
  const std::int64_t last = tensor.dim() - 1;
  return last < 0 || tensor.size(last) <= 1 || tensor.stride(last) == 1;
}

}  // namespace

DType dtype_of(ScalarType type) {
  switch (type) {
    case ScalarType::Half:
      return DType::kFloat16;
    case ScalarType::BFloat16:
      return DType::kBFloat16;
    default:
      return DType::kFloat32;
  }
}

TensorArg OpCheck::tensor(std::string_view argument, const Tensor& tensor, DTypes dtypes,
                          SizeNames sizes) {
  check_sizes(argument, tensor, dtypes, sizes);
  check_device(argument, tensor);
  const auto strides = tensor.strides();
  if (!has_contiguous_last_dim(tensor)) {
    fail(argument, "a contiguous last dimension", "strides " + list(strides));
  }
  return {tensor.data_ptr(), tensor.scalar_type(), {strides.begin(), strides.end()}};
}

std::optional<TensorArg> OpCheck::optional(std::string_view argument,
                                           const std::optional<Tensor>& tensor, DTypes dtypes,
                                           SizeNames sizes) {
  if (!tensor) return std::nullopt;
  return this->tensor(argument, *tensor, dtypes, sizes);
}

TensorArg OpCheck::output(std::string_view argument, const Tensor& tensor, DTypes dtypes,
                          SizeNames sizes) {
  const TensorArg checked = this->tensor(argument, tensor, dtypes, sizes);
  if (!has_distinct_elements(tensor)) {
    fail(argument, "elements that do not overlap in memory", "strides " + list(tensor.strides()));
  }
  return checked;
}

void OpCheck::bind(std::string_view name, std::int64_t size) {
  const std::int64_t* bound = find(name);
  if (bound == nullptr) {
    sizes_.emplace_back(name, size);
  } else if (*bound != size) {
    fail(name, std::to_string(*bound), std::to_string(size));
  }
}

std::int64_t OpCheck::size(std::string_view name) const { return *find(name); }

void OpCheck::require(bool condition, std::string_view argument, std::string_view expected,
                      std::string_view got) const {
  if (!condition) fail(argument, expected, got);
}

void OpCheck::require_count(std::int64_t count, std::string_view argument,
                            std::int64_t least) const {
  require(count >= least && count <= INT32_MAX, argument,
          std::to_string(least) + " or more, up to 2^31 - 1", count);
}

void OpCheck::fail(std::string_view argument, std::string_view expected,
                   std::string_view got) const {
  throw_bad_argument(op_, argument, expected, got);
}

const std::int64_t* OpCheck::find(std::string_view name) const {
  for (const auto& [bound, size] : sizes_) {
    if (bound == name) return &size;
  }
  return nullptr;
}

std::string OpCheck::describe(DTypes dtypes, SizeNames sizes) const {
  const auto dtype_text = [](ScalarType dtype) { return name_of(dtype); };
  const auto size_text = [this](std::string_view name) {
    const std::int64_t* bound = find(name);
    return std::string(name) + (bound == nullptr ? "" : "=" + std::to_string(*bound));
  };
  return join(dtypes, "|", dtype_text) + " [" + join(sizes, ", ", size_text) + "]";
}

void OpCheck::check_sizes(std::string_view argument, const Tensor& tensor, DTypes dtypes,
                          SizeNames sizes) {
  const auto actual = tensor.sizes();
  bool fits = std::find(dtypes.begin(), dtypes.end(), tensor.scalar_type()) != dtypes.end() &&
              actual.size() == sizes.size();
  for (std::size_t dim = 0; fits && dim < actual.size(); ++dim) {
    const std::int64_t* bound = find(sizes.begin()[dim]);
    fits = bound == nullptr || *bound == actual[dim];
  }
  if (!fits) fail(argument, describe(dtypes, sizes), specbranch::describe(tensor));
  for (std::size_t dim = 0; dim < actual.size(); ++dim) bind(sizes.begin()[dim], actual[dim]);
}

void OpCheck::check_device(std::string_view argument, const Tensor& tensor) {
  const torch::stable::Device device = tensor.device();
  if (!device_) device_ = device;
  if (device != *device_) fail(argument, "a tensor on " + name_of(*device_), name_of(device));
}

Tensor new_empty(const Tensor& like, std::initializer_list<std::int64_t> sizes, ScalarType dtype) {
  try {
    return torch::stable::new_empty(like, sizes, dtype);
  } catch (const std::exception&) {  // whose words are those of torch's dispatcher
    const auto text = [](std::int64_t size) { return std::to_string(size); };
    throw std::runtime_error("specbranch: no memory for a result of " + name_of(dtype) + " [" +
                             join(sizes, ", ", text) + "]");
  }
}

}  // namespace specbranch
