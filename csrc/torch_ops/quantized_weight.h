#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "linear/params.h"
#include "torch_ops/tensor_arg.h"

namespace specbranch {

/// A weight uint8 [tiles, K / 32, bytes] of so many tiles of outputs; the bytes of its groups say
/// how many bits it has. Binds "tiles", "K/32" and "bytes".
inline QuantizedWeight check_quantized_weight(OpCheck& op, std::string_view name,
                                              const Tensor& weight_) {
  const TensorArg weight = op.tensor(name, weight_, {kUInt8}, {"tiles", "K/32", "bytes"});
  const std::int64_t bytes = op.size("bytes");
  const QuantizedWeight found{
      .data = weight.data<std::uint8_t>(),
      .bits = bytes == group_bytes(4) ? 4 : 8,
      .out_features = op.size("tiles") * kTileOutputs,
      .in_features = op.size("K/32") * kGroupInputs,
  };
  op.require(bytes == group_bytes(found.bits), name,
             std::to_string(group_bytes(4)) + " bytes a group for 4 bits or " +
                 std::to_string(group_bytes(8)) + " for 8",
             bytes);
  if (!weight_.is_contiguous()) op.fail(name, "a contiguous tensor", "another layout");
  return found;
}

}  // namespace specbranch
