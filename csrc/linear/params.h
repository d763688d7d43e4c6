#pragma once

#include <cstddef>
#include <cstdint>

#include "common/dtype.h"

namespace specbranch {

/// Inputs that share a scale, of weights and of activations.
inline constexpr std::int64_t kGroupInputs = 32;
/// Outputs that lie side by side.
inline constexpr std::int64_t kTileOutputs = 16;

/// Bytes of one group of a tile. First its levels, in slices of 64 bytes: with 8 bits, a slice has
/// 4 inputs of each output; with 4 bits, 8 inputs, the first 4 in the low halves of the bytes. Then
/// 16 scales in fp16, and with 4 bits 16 minima. A weight is level * scale + minimum, with 8 bits
/// (level - 128) * scale.
/// Inputs of one slice, 4 of each output's bytes.
constexpr std::int64_t slice_inputs(int bits) { return 4 * 8 / bits; }
constexpr std::int64_t level_bytes(int bits) { return kTileOutputs * kGroupInputs * bits / 8; }
constexpr std::int64_t group_bytes(int bits) {
  return level_bytes(bits) + kTileOutputs * 2 * (bits == 4 ? 2 : 1);
}

/// Outputs of a PackedWeight that lie side by side.
inline constexpr std::int64_t kPackedOutputs = 32;

/// A matrix [N, K] in ordinary numbers; outputs beyond N are zero.
struct PackedWeight {
  const void* data;  // [ceil(N / 32), K, 32]
  std::int64_t out_features;
  std::int64_t in_features;

  std::int64_t num_tiles() const { return (out_features + kPackedOutputs - 1) / kPackedOutputs; }
};

/// packed_linear: out[r] = weight x[r] + bias, summed in float input by input. The bits of a row
/// depend on that row alone.
struct PackedLinearParams {
  const void* x;  // [R, K]
  void* out;      // [R, N]
  DType dtype;    // of both and of the weight
  std::int64_t x_stride;
  std::int64_t out_stride;
  std::int64_t num_rows;
  PackedWeight weight;
  const float* bias;  // [N], or null
};

/// A matrix [N, K] in few bits; K is a multiple of 32, rows beyond N are zero.
struct QuantizedWeight {
  const std::uint8_t* data;  // [ceil(N / 16), K / 32, group_bytes(bits)]
  int bits;                  // 4 or 8
  std::int64_t out_features;
  std::int64_t in_features;

  std::int64_t num_groups() const { return in_features / kGroupInputs; }
  std::int64_t num_tiles() const { return (out_features + kTileOutputs - 1) / kTileOutputs; }
  std::int64_t tile_bytes() const { return num_groups() * group_bytes(bits); }
};

/// quantized_linear: out[r] = weight x[r] + bias, with x rounded to 8 bits in groups of 32. The
/// bits of a row depend on that row alone.
struct QuantizedLinearParams {
  const void* x;  // [R, K]
  void* out;      // [R, N]
  DType dtype;    // of both
  std::int64_t x_stride;
  std::int64_t out_stride;
  std::int64_t num_rows;
  QuantizedWeight weight;
  const float* bias;  // [N], or null
};

/// quantized_rows: rows of a weight as they are multiplied by, times a number.
struct QuantizedRowsParams {
  QuantizedWeight weight;
  const std::int32_t* ids;  // [R]
  void* out;                // [R, K]
  DType dtype;              // of out
  std::int64_t out_stride;
  std::int64_t num_rows;
  float scale;
};

}  // namespace specbranch
