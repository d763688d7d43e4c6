#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "linear/params.h"
#include "torch_ops/tensor_arg.h"

namespace specbranch {

/// A weight [tiles, K, 32] of a dtype, of whose outputs so many count. Binds "tiles", "K", "32" and
/// "N".
inline PackedWeight check_packed_weight(OpCheck& op, const Tensor& weight_, ScalarType dtype,
                                        std::int64_t out_features) {
  op.bind("32", kPackedOutputs);
  const TensorArg weight = op.tensor("weight", weight_, {dtype}, {"tiles", "K", "32"});
  if (!weight_.is_contiguous()) op.fail("weight", "a contiguous tensor", "another layout");
  const std::int64_t most = op.size("tiles") * kPackedOutputs;
  const std::int64_t least = std::max<std::int64_t>(most - kPackedOutputs + 1, 0);
  op.require(least <= out_features && out_features <= most, "out_features",
             std::to_string(most) + " or up to 31 fewer", out_features);
  op.bind("N", out_features);
  return {weight.data(), out_features, op.size("K")};
}

}  // namespace specbranch
