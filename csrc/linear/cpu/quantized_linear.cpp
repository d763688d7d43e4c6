#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "common/cpu/parallel.h"
#include "common/cpu/vec.h"
#include "linear/cpu/dots.h"
#include "linear/cpu/products.h"

namespace specbranch::SPECBRANCH_CPU_NS {
namespace {

constexpr std::int64_t kBytesWorthAThread = 1 << 15;   // of weights
constexpr std::int64_t kValuesWorthAThread = 1 << 14;  // of activations

/// Where a group's numbers of kLanes outputs lie, the first of which is output `lane` of the tile.
template <int kBits>
struct GroupLanes {
  const std::uint8_t* slices;
  Vec scale;
  Vec minimum;

  GroupLanes(const std::uint8_t* group, int lane) : slices(group + 4 * lane) {
    const auto* scales = reinterpret_cast<const Half*>(group + level_bytes(kBits)) + lane;
    scale = load(scales);
    minimum = kBits == 4 ? load(scales + kTileOutputs) : scale * Vec(-128.0f);
  }
};

/// kLanes outputs of kRows rows, from `row` on. Each row is summed in the same order whatever
/// kRows.
template <int kBits, int kRows>
std::array<Vec, kRows> multiply_lanes(const std::uint8_t* tile, int lane, const QuantizedRows& x,
                                      std::int64_t row) {
  constexpr std::int64_t kSlices = kGroupInputs / slice_inputs(kBits);
  const std::int64_t num_groups = x.num_groups();
  const std::int8_t* levels = x.levels(row);
  const float* scales = x.scales(row);
  const float* sums = x.sums(row);
  std::array<Vec, kRows> out;
  out.fill(Vec(0.0f));
  for (std::int64_t g = 0; g < num_groups; ++g) {
    const GroupLanes<kBits> group(tile + g * group_bytes(kBits), lane);
    Dots<kBits, kRows> dots;
#pragma GCC unroll 8
    for (std::int64_t i = 0; i < kSlices; ++i) {
      dots.add(group.slices + i * 4 * kTileOutputs,
               levels + g * kGroupInputs + i * slice_inputs(kBits), x.stride());
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const std::int64_t at = r * num_groups + g;
      const Vec product = at::vec::fmadd(group.minimum, Vec(sums[at]), dots.get(r) * group.scale);
      out[r] = at::vec::fmadd(product, Vec(scales[at]), out[r]);
    }
  }
  return out;
}

/// A tile's outputs of kRows rows.
template <int kBits, int kRows>
void multiply_rows(const QuantizedLinearParams& p, const QuantizedRows& x, std::int64_t tile,
                   std::int64_t row) {
  const std::uint8_t* data = p.weight.data + tile * p.weight.tile_bytes();
  for (int lane = 0; lane < kTileOutputs; lane += kLanes) {
    const std::int64_t first = tile * kTileOutputs + lane;
    const std::int64_t count = std::min<std::int64_t>(p.weight.out_features - first, kLanes);
    if (count <= 0) return;
    const std::array<Vec, kRows> found = multiply_lanes<kBits, kRows>(data, lane, x, row);
    const Vec bias = p.bias == nullptr ? Vec(0.0f) : load(p.bias + first, count);
    dispatch_dtype(p.dtype, [&](auto type) {
      auto* out = static_cast<decltype(type)*>(p.out) + row * p.out_stride + first;
      for (int r = 0; r < kRows; ++r) store(out + r * p.out_stride, found[r] + bias, count);
    });
  }
}

using MultiplyRows = void (*)(const QuantizedLinearParams&, const QuantizedRows&, std::int64_t,
                              std::int64_t);

/// multiply_rows of 1, 2, ... kMaxRows rows.
template <int kBits>
constexpr std::array<MultiplyRows, kMaxRows> kMultiplyRows =
    []<int... kLess>(std::integer_sequence<int, kLess...>) {
      return std::array<MultiplyRows, kMaxRows>{multiply_rows<kBits, kLess + 1>...};
    }(std::make_integer_sequence<int, kMaxRows>());

}  // namespace

void multiply_tiles(const QuantizedLinearParams& p, const QuantizedRows& rows, std::int64_t begin,
                    std::int64_t end) {
  const auto& multiply = p.weight.bits == 4 ? kMultiplyRows<4> : kMultiplyRows<8>;
  for (std::int64_t tile = begin; tile < end; ++tile) {
    for (std::int64_t row = 0; row < rows.num_rows(); row += kMaxRows) {
      const std::int64_t count = std::min<std::int64_t>(rows.num_rows() - row, kMaxRows);
      multiply[count - 1](p, rows, tile, row);
    }
  }
}

void quantized_linear(const QuantizedLinearParams& p) {
  const QuantizedRows rows(p.num_rows, p.weight.in_features);
  parallel_for(0, p.num_rows, 1 + kValuesWorthAThread / p.weight.in_features,
               [&](std::int64_t lo, std::int64_t hi) { quantize_rows(p, lo, hi, rows); });
  parallel_for(0, p.weight.num_tiles(), 1 + kBytesWorthAThread / p.weight.tile_bytes(),
               [&](std::int64_t lo, std::int64_t hi) { multiply_tiles(p, rows, lo, hi); });
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
