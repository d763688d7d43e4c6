#pragma once

#include <cstdint>

#include "common/dtype.h"
#include "kv_cache/params.h"

// What the small steps of a decoder are given. Rows are contiguous where no stride is named, in
// elements; data and weights are of one dtype, sums and products between load and store are float.
namespace specbranch {

/// gather_rows: out[i] = scale * table[ids[i]].
struct GatherRowsParams {
  DType table_dtype;
  DType dtype;
  const void* table;        // [n, width]
  const std::int32_t* ids;  // [num_rows]
  void* out;                // [num_rows, width]
  std::int64_t num_rows;
  std::int64_t width;
  float scale;
};

/// x / sqrt(mean(x^2) + eps) * (weight + offset). No norm where there is no weight.
struct RmsNorm {
  const void* weight = nullptr;
  float eps = 0.0f;
  float offset = 0.0f;
};

/// add_rms_norm: residual += x, if there is one; out = norm of residual.
struct AddRmsNormParams {
  DType dtype;
  const void* x;   // [num_rows, width] or null
  void* residual;  // [num_rows, width]
  void* out;       // [num_rows, width], may be x or residual
  std::int64_t x_stride;
  std::int64_t residual_stride;
  std::int64_t out_stride;
  RmsNorm norm;
  std::int64_t num_rows;
  std::int64_t width;
};

/// Rotation of dimension i with dimension i + dim / 2, for i < dim / 2; the others stay.
struct Rope {
  const float* cos = nullptr;  // [positions, dim / 2]
  const float* sin = nullptr;  // [positions, dim / 2]
  std::int64_t dim = 0;        // 0: no rotation
};

/// rope_append_kv_: normalises each query and key, where there is a norm, and rotates it: queries
/// in place, keys on their way to the cache. Values go there as they are.
struct RopeAppendKvParams {
  DType dtype;
  void* q;  // [T, Hq, D]
  RowStrides q_strides;
  std::int64_t num_qo_heads;
  RmsNorm q_norm;
  RmsNorm k_norm;
  Rope rope;
  const std::int32_t* position_ids;  // [T]
  AppendKvParams append;
};

enum class Activation { kSilu, kGeluTanh };

/// gated_activation: out = activation(gate) * up.
struct GatedActivationParams {
  DType dtype;
  Activation activation;
  const void* gate_up;  // [num_rows, 2 * width], gates first
  void* out;            // [num_rows, width]
  std::int64_t gate_up_stride;
  std::int64_t out_stride;
  std::int64_t num_rows;
  std::int64_t width;
};

/// softcap: x = cap * tanh(x / cap), in place.
struct SoftcapParams {
  DType dtype;
  void* x;  // [size]
  std::int64_t size;
  float cap;
};

}  // namespace specbranch
