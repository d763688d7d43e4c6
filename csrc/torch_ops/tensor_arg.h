#pragma once

// Checked views of tensor arguments. An op checks its arguments in the order of its schema; size
// names bind at their first use and must agree from then on:
//
//   OpCheck op("tree_mask");
//   const TensorArg parents = op.tensor("parents", parents_, {kInt32}, {"B", "N"});
//   const TensorArg n_nodes = op.tensor("n_nodes", n_nodes_, {kInt32}, {"B"});
//   op.bind("W", (op.size("N") + 31) / 32);
//   const TensorArg mask = op.output("ancestor_mask", mask_, {kInt32}, {"B", "N", "W"});
//   ...
//   params.parents = parents.data<std::int32_t>();
//
// Every check throws std::invalid_argument, which Python sees as ValueError:
//   tree_mask: n_nodes: expected int32 [B=2], got int64 [3]

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/dtype.h"

namespace specbranch {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline constexpr ScalarType kInt32 = ScalarType::Int;
inline constexpr ScalarType kInt64 = ScalarType::Long;
inline constexpr ScalarType kUInt8 = ScalarType::Byte;
inline constexpr ScalarType kFloat32 = ScalarType::Float;
inline constexpr ScalarType kFloat16 = ScalarType::Half;
inline constexpr ScalarType kBFloat16 = ScalarType::BFloat16;

/// Accepted dtypes of one argument.
using DTypes = std::initializer_list<ScalarType>;
/// The dtypes of model data.
inline constexpr DTypes kFloating = {kFloat32, kFloat16, kBFloat16};

/// Wanted sizes of one argument, by name.
using SizeNames = std::initializer_list<std::string_view>;

/// One of kFloating.
DType dtype_of(ScalarType type);

/// A tensor that has passed its checks: the pointer and strides that a params struct wants.
class TensorArg {
 public:
  TensorArg(void* data, ScalarType scalar_type, std::vector<std::int64_t> strides)
      : data_(data), scalar_type_(scalar_type), strides_(std::move(strides)) {}

  template <class T = void>
  T* data() const {
    return static_cast<T*>(data_);
  }
  /// In elements.
  std::int64_t stride(std::size_t dim) const { return strides_[dim]; }
  ScalarType scalar_type() const { return scalar_type_; }
  /// Of model data only.
  DType dtype() const { return dtype_of(scalar_type_); }

 private:
  void* data_;
  ScalarType scalar_type_;
  std::vector<std::int64_t> strides_;
};

/// The checks of one call of one op.
class OpCheck {
 public:
  explicit OpCheck(std::string_view op) : op_(op) {}

  /// A tensor that is read: of one of the dtypes, of the named sizes, on the device of the first
  /// tensor, with a contiguous last dimension.
  TensorArg tensor(std::string_view argument, const Tensor& tensor, DTypes dtypes, SizeNames sizes);
  /// The same for a tensor that may be None.
  std::optional<TensorArg> optional(std::string_view argument, const std::optional<Tensor>& tensor,
                                    DTypes dtypes, SizeNames sizes);
  /// The same for a tensor that is written: no two of its elements may share memory.
  TensorArg output(std::string_view argument, const Tensor& tensor, DTypes dtypes, SizeNames sizes);

  /// Names a size that follows from others. A name that is already bound must have this size.
  void bind(std::string_view name, std::int64_t size);
  /// The size bound to a name.
  std::int64_t size(std::string_view name) const;

  /// For conditions on scalars and values: `got` tells what came instead.
  void require(bool condition, std::string_view argument, std::string_view expected,
               std::string_view got) const;
  template <class Number>
  void require(bool condition, std::string_view argument, std::string_view expected,
               Number got) const {
    if (!condition) fail(argument, expected, std::to_string(got));
  }
  /// Requires a size of a result to be one: `least` or more, and no more than int32 counts.
  void require_count(std::int64_t count, std::string_view argument, std::int64_t least) const;
  [[noreturn]] void fail(std::string_view argument, std::string_view expected,
                         std::string_view got) const;

 private:
  const std::int64_t* find(std::string_view name) const;
  std::string describe(DTypes dtypes, SizeNames sizes) const;
  void check_sizes(std::string_view argument, const Tensor& tensor, DTypes dtypes, SizeNames sizes);
  void check_device(std::string_view argument, const Tensor& tensor);

  std::string_view op_;
  std::vector<std::pair<std::string, std::int64_t>> sizes_;
  std::optional<torch::stable::Device> device_;
};

/// Fails unless `valid`, naming the entry. For values of CPU tensors.
template <class Number>
void require_entry(const OpCheck& op, bool valid, std::string_view argument,
                   std::string_view expected, Number got, std::int64_t index) {
  if (valid) return;
  op.fail(argument, expected, std::to_string(got) + " at [" + std::to_string(index) + "]");
}

/// An uninitialised contiguous tensor on the device of `like`.
Tensor new_empty(const Tensor& like, std::initializer_list<std::int64_t> sizes, ScalarType dtype);

}  // namespace specbranch
