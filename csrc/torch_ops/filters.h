#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>

#include "sampling/params.h"
#include "torch_ops/tensor_arg.h"

namespace specbranch {

/// The four tensors of a filter, one entry for each row or request.
struct FilterTensors {
  const Tensor& temperature;
  const Tensor& top_k;
  const Tensor& top_p;
  const Tensor& min_p;
};

/// Checks shapes and dtypes; `size` names the number of entries.
inline Filters check_filters(OpCheck& op, const FilterTensors& in, std::string_view size) {
  return {
      .temperature = op.tensor("temperature", in.temperature, {kFloat32}, {size}).data<float>(),
      .top_k = op.tensor("top_k", in.top_k, {kInt32}, {size}).data<std::int32_t>(),
      .top_p = op.tensor("top_p", in.top_p, {kFloat32}, {size}).data<float>(),
      .min_p = op.tensor("min_p", in.min_p, {kFloat32}, {size}).data<float>(),
  };
}

inline void check_filter_values(const OpCheck& op, const Filters& filters, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    const auto [temperature, top_k, top_p, min_p] = filters[i];
    require_entry(op, std::isfinite(temperature) && temperature >= 0, "temperature",
                  "finite values >= 0", temperature, i);
    require_entry(op, top_k >= 0, "top_k", "values >= 0", top_k, i);
    require_entry(op, top_p > 0 && top_p <= 1, "top_p", "values in (0, 1]", top_p, i);
    require_entry(op, min_p >= 0 && min_p <= 1, "min_p", "values in [0, 1]", min_p, i);
  }
}

}  // namespace specbranch
