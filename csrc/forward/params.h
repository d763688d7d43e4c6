#pragma once

#include <cstdint>

#include "common/dtype.h"

// What the small steps of a decoder are given. Rows are contiguous where no stride is named; data
// and weights are of one dtype, sums and products between load and store are float.
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
  void* out;       // [num_rows, width], may be residual
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

/// rotate_heads: normalises each head, where there is a norm, and rotates it, in place.
struct RotateHeadsParams {
  DType dtype;
  void* heads;  // [num_rows, num_heads, head_dim]
  std::int64_t row_stride;
  RmsNorm norm;
  Rope rope;
  const std::int32_t* position_ids;  // [num_rows]
  std::int64_t num_rows;
  std::int64_t num_heads;
  std::int64_t head_dim;
};

enum class Activation { kSilu, kGeluTanh };

/// gated_activation: out = activation(gate) * up.
struct GatedActivationParams {
  DType dtype;
  Activation activation;
  const void* gate_up;  // [num_rows, 2 * width], gates first
  void* out;            // [num_rows, width]
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
