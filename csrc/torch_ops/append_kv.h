#pragma once

#include "kv_cache/params.h"
#include "torch_ops/tensor_arg.h"

namespace specbranch {

/// The arguments of append_kv_, in their order.
struct AppendKvTensors {
  const Tensor& k;
  const Tensor& v;
  const Tensor& k_cache;
  const Tensor& v_cache;
  const Tensor& block_table;
  const Tensor& start;
  const Tensor& row_indptr;
};

/// Checks all but the values. dtypes: of k.
AppendKvParams check_append_kv(OpCheck& op, DTypes dtypes, const AppendKvTensors& tensors);

/// Checks the values of CPU tensors.
void require_append_values(const OpCheck& op, const AppendKvParams& params);

}  // namespace specbranch
