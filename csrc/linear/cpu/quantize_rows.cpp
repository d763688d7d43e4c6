#include <cmath>
#include <limits>

#include "common/cpu/vec.h"
#include "linear/cpu/products.h"

namespace specbranch::SPECBRANCH_CPU_NS {
namespace {

constexpr float kMostLevel = 127;
constexpr float kTiny = 1e-30f;  // what is smaller has no inverse, and counts as zero

struct Group {
  float scale;
  float sum;
};

template <class T>
Group quantize_group(const T* x, std::int8_t* levels) {
  Vec largest(0.0f);
  for (int i = 0; i < kGroupInputs; i += kLanes) {
    largest = at::vec::maximum(largest, load(x + i).abs());  // keeps NaN
  }
  const float max = at::vec::vec_reduce_all<float>(
      [](const Vec& a, const Vec& b) { return at::vec::maximum(a, b); }, largest);
  const bool finite = max <= std::numeric_limits<float>::max();
  const Vec inverse(finite && max > kTiny ? kMostLevel / max : 0.0f);
  Vec sums(0.0f);
  alignas(64) float rounded[kGroupInputs] = {};
  for (int i = 0; finite && i < kGroupInputs; i += kLanes) {
    const Vec level = (load(x + i) * inverse).round();
    sums = sums + level;
    level.store(rounded + i);
  }
  for (int i = 0; i < kGroupInputs; ++i) levels[i] = static_cast<std::int8_t>(rounded[i]);
  return {finite ? max / kMostLevel : std::numeric_limits<float>::quiet_NaN(), sum(sums)};
}

}  // namespace

QuantizedRows::QuantizedRows(std::int64_t num_rows, std::int64_t in_features)
    : num_rows_(num_rows),
      in_features_(in_features),
      levels_(new std::int8_t[num_rows * in_features]),
      scales_(new float[2 * num_rows * num_groups()]) {}

void quantize_rows(const QuantizedLinearParams& p, std::int64_t begin, std::int64_t end,
                   const QuantizedRows& rows) {
  dispatch_dtype(p.dtype, [&](auto type) {
    const auto* x = static_cast<const decltype(type)*>(p.x);
    for (std::int64_t r = begin; r < end; ++r) {
      for (std::int64_t g = 0; g < rows.num_groups(); ++g) {
        const std::int64_t first = g * kGroupInputs;
        const Group group = quantize_group(x + r * p.x_stride + first, rows.levels(r) + first);
        rows.scales(r)[g] = group.scale;
        rows.sums(r)[g] = group.sum;
      }
    }
  });
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
