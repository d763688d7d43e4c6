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

}  // namespace

void quantized_rows(const QuantizedRowsParams& p) {
  const QuantizedWeight& weight = p.weight;
  const std::int64_t grain = 1 + kValuesWorthAThread / weight.in_features;
  parallel_for(0, p.num_rows, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const std::uint8_t* tile = weight.data + p.ids[r] / kTileOutputs * weight.tile_bytes();
      for (std::int64_t g = 0; g < weight.num_groups(); ++g) {
        dequantize_group(tile + g * group_bytes(weight.bits), weight.bits, p.ids[r] % kTileOutputs,
                         p.out + r * p.out_stride + g * kGroupInputs);
      }
    }
  });
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
