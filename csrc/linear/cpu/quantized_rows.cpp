#include <algorithm>
#include <cstdint>
#include <cstring>

#include "common/cpu/kernels.h"
#include "common/cpu/parallel.h"
#include "common/cpu/vec.h"
#include "linear/params.h"

namespace specbranch::SPECBRANCH_CPU_NS {
namespace {

constexpr std::int64_t kValuesWorthAThread = 1 << 14;

float half_at(const std::uint8_t* bytes) {
  Half value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

void dequantize_group(const std::uint8_t* group, int bits, std::int64_t lane, float* out) {
  const std::uint8_t* scales = group + level_bytes(bits) + lane * sizeof(Half);
  const float scale = half_at(scales);
  const float minimum = bits == 4 ? half_at(scales + kTileOutputs * sizeof(Half)) : -128 * scale;
  for (std::int64_t i = 0; i < kGroupInputs; ++i) {
    const std::int64_t inputs = slice_inputs(bits);
    const std::uint8_t byte = group[i / inputs * 4 * kTileOutputs + lane * 4 + i % 4];
    const int level = bits == 8 ? byte : i % inputs < 4 ? byte & 15 : byte >> 4;
    out[i] = level * scale + minimum;  // the product is exact
  }
}

template <class T>
void read_row(const QuantizedRowsParams& p, std::int64_t row) {
  const QuantizedWeight& weight = p.weight;
  const std::int64_t id = p.ids[row];
  const std::uint8_t* tile = weight.data + id / kTileOutputs * weight.tile_bytes();
  T* out = static_cast<T*>(p.out) + row * p.out_stride;
  for (std::int64_t g = 0; g < weight.num_groups(); ++g, out += kGroupInputs) {
    float values[kGroupInputs];
    dequantize_group(tile + g * group_bytes(weight.bits), weight.bits, id % kTileOutputs, values);
    for (std::int64_t i = 0; i < kGroupInputs; ++i) out[i] = static_cast<T>(values[i] * p.scale);
  }
}

}  // namespace

void quantized_rows(const QuantizedRowsParams& p) {
  const std::int64_t grain =
      1 + kValuesWorthAThread / std::max<std::int64_t>(p.weight.in_features, 1);
  dispatch_dtype(p.dtype, [&]<class T>(T) {
    parallel_for(0, p.num_rows, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) read_row<T>(p, row);
    });
  });
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
