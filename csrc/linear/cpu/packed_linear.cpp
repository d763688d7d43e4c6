#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <utility>

#include "common/cpu/kernels.h"
#include "common/cpu/parallel.h"
#include "common/cpu/vec.h"
#include "linear/params.h"

namespace specbranch::SPECBRANCH_CPU_NS {
namespace {

constexpr std::int64_t kBytesWorthAThread = 1 << 15;   // of weights
constexpr std::int64_t kValuesWorthAThread = 1 << 14;  // of activations

// Two vectors of outputs side by side: the sums of one row alone would wait for each other.
constexpr int kVecs = 2;
constexpr int kOutputs = kVecs * kLanes;
#if defined(CPU_CAPABILITY_AVX512)
constexpr int kMaxRows = 8;  // whose sums the registers hold
#elif defined(CPU_CAPABILITY_AVX2)
constexpr int kMaxRows = 4;
#else
constexpr int kMaxRows = 2;
#endif
static_assert(kPackedOutputs % kOutputs == 0);

// The hardware's own streams end with each page of 4 KiB.
constexpr std::int64_t kBytesAhead = 2048;
constexpr std::int64_t kLineBytes = 64;

/// Rows of activations [R, K] in float.
class FloatRows {
 public:
  explicit FloatRows(const PackedLinearParams& p)
      : width_(p.weight.in_features), values_(new float[p.num_rows * width_]) {
    dispatch_dtype(p.dtype, [&](auto type) {
      const auto* x = static_cast<const decltype(type)*>(p.x);
      parallel_for(0, p.num_rows, 1 + kValuesWorthAThread / std::max<std::int64_t>(width_, 1),
                   [&](std::int64_t begin, std::int64_t end) {
                     for (std::int64_t r = begin; r < end; ++r) {
                       std::copy_n(x + r * p.x_stride, width_, values_.get() + r * width_);
                     }
                   });
    });
  }

  std::int64_t width() const { return width_; }
  const float* row(std::int64_t r) const { return values_.get() + r * width_; }

 private:
  std::int64_t width_;
  std::unique_ptr<float[]> values_;
};

enum class Where { kMemory, kCache };

template <int kRows>
using Sums = std::array<std::array<Vec, kVecs>, kRows>;

template <class T>
void fetch_ahead(const T* weight) {
  const char* ahead = reinterpret_cast<const char*>(weight) + kBytesAhead;
  for (std::size_t at = 0; at < kOutputs * sizeof(T); at += kLineBytes) {
    __builtin_prefetch(ahead + at);
  }
}

/// kOutputs outputs of kRows rows. Each row is summed input by input, whatever kRows.
/// Where: from memory or, as others have just read these weights, from the cache.
template <int kRows, Where kWhere, class T>
Sums<kRows> multiply_outputs(const T* weight, const float* x, std::int64_t width) {
  Sums<kRows> sums;
  for (auto& row : sums) row.fill(Vec(0.0f));
  for (std::int64_t k = 0; k < width; ++k, weight += kPackedOutputs) {
    if constexpr (kWhere == Where::kMemory) fetch_ahead(weight);
    const std::array<Vec, kVecs> w{load(weight), load(weight + kLanes)};
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Vec value(x[r * width + k]);
      for (int v = 0; v < kVecs; ++v) sums[r][v] = at::vec::fmadd(w[v], value, sums[r][v]);
    }
  }
  return sums;
}

/// A tile's outputs of kRows rows, from `row` on.
template <class T, Where kWhere, int kRows>
void multiply_rows(const PackedLinearParams& p, const FloatRows& x, std::int64_t tile,
                   std::int64_t row) {
  const T* data = static_cast<const T*>(p.weight.data) + tile * x.width() * kPackedOutputs;
  for (int lane = 0; lane < kPackedOutputs; lane += kOutputs) {
    const Sums<kRows> sums = multiply_outputs<kRows, kWhere>(data + lane, x.row(row), x.width());
    for (int v = 0; v < kVecs; ++v) {
      const std::int64_t first = tile * kPackedOutputs + lane + v * kLanes;
      const std::int64_t count = std::min<std::int64_t>(p.weight.out_features - first, kLanes);
      if (count <= 0) return;
      const Vec bias = p.bias == nullptr ? Vec(0.0f) : load(p.bias + first, count);
      T* out = static_cast<T*>(p.out) + row * p.out_stride + first;
      for (int r = 0; r < kRows; ++r) store(out + r * p.out_stride, sums[r][v] + bias, count);
    }
  }
}

template <class T>
using MultiplyRows = void (*)(const PackedLinearParams&, const FloatRows&, std::int64_t,
                              std::int64_t);

/// multiply_rows of 1, 2, ... kMaxRows rows.
template <class T, Where kWhere>
constexpr std::array<MultiplyRows<T>, kMaxRows> kMultiplyRows =
    []<int... kLess>(std::integer_sequence<int, kLess...>) {
      return std::array<MultiplyRows<T>, kMaxRows>{multiply_rows<T, kWhere, kLess + 1>...};
    }(std::make_integer_sequence<int, kMaxRows>());

}  // namespace

void packed_linear(const PackedLinearParams& p) {
  const FloatRows rows(p);
  dispatch_dtype(p.dtype, [&]<class T>(T) {
    const std::int64_t tile_bytes = rows.width() * kPackedOutputs * sizeof(T);
    parallel_for(
        0, p.weight.num_tiles(), 1 + kBytesWorthAThread / std::max<std::int64_t>(tile_bytes, 1),
        [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t tile = begin; tile < end; ++tile) {
            for (std::int64_t row = 0; row < p.num_rows; row += kMaxRows) {
              const std::int64_t count = std::min<std::int64_t>(p.num_rows - row, kMaxRows);
              const auto& multiply =
                  row == 0 ? kMultiplyRows<T, Where::kMemory> : kMultiplyRows<T, Where::kCache>;
              multiply[count - 1](p, rows, tile, row);
            }
          }
        });
  });
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
