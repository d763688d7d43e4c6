#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "sampling/params.h"
#include "torch_ops/tensor_arg.h"

namespace specbranch {

/// Bits of each row of logits [rows, V], if any; `rows` names the number of rows.
inline AllowedTokens check_allowed(OpCheck& op, const std::optional<Tensor>& allowed_,
                                   std::string_view rows) {
  op.bind("W", (op.size("V") + 31) / 32);
  const auto allowed = op.optional("allowed", allowed_, {kInt32}, {rows, "W"});
  if (!allowed) return {};
  return {allowed->data<std::int32_t>(), allowed->stride(0)};
}

}  // namespace specbranch
