#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <tuple>

#include "common/cpu/vec.h"
#include "sampling/params.h"

// One row of the vocabulary as floats, padded to whole tiles so that no loop has a tail.
namespace specbranch::SPECBRANCH_CPU_NS {

/// Tokens that are worked on together: the words of 16 Philox counters.
inline constexpr std::int64_t kTile = 64;

inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

inline std::int64_t round_up_to_tiles(std::int64_t count) {
  return (count + kTile - 1) / kTile * kTile;
}

/// Uninitialised floats for one row of `vocab_size` tokens.
class RowBuffer {
 public:
  explicit RowBuffer(std::int64_t vocab_size)
      : size_(round_up_to_tiles(vocab_size)),
        data_(static_cast<float*>(::operator new(size_ * sizeof(float), kAlignment))) {}

  float* data() const { return data_.get(); }
  /// A multiple of kTile.
  std::int64_t size() const { return size_; }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Delete {
    void operator()(float* data) const { ::operator delete(data, kAlignment); }
  };
  std::int64_t size_;
  std::unique_ptr<float, Delete> data_;
};

/// The largest lane; NaN if any is.
inline float max_or_nan(const Vec& value) {
  float lanes[kLanes];
  value.store(lanes);
  float largest = lanes[0];
  for (const float lane : lanes) {
    if (lane > largest || std::isnan(lane)) largest = lane;
  }
  return largest;
}

/// Copies logits [vocab_size] into `row`, -inf behind them. Returns the maximum, NaN if any is NaN.
template <class T>
float load_row(const T* logits, std::int64_t vocab_size, const RowBuffer& row) {
  Vec largest(-kInfinity);
  std::int64_t i = 0;
  for (; i + kLanes <= vocab_size; i += kLanes) {
    const Vec x = load(logits + i);
    x.store(row.data() + i);
    largest = at::vec::maximum(largest, x);
  }
  for (; i < row.size(); i += kLanes) {
    const std::int64_t left = std::max<std::int64_t>(vocab_size - i, 0);
    const Vec x = Vec::set(Vec(-kInfinity), load(logits + i, left), left);
    x.store(row.data() + i);
    largest = at::vec::maximum(largest, x);
  }
  return max_or_nan(largest);
}

/// The same for row `index` of logits of any dtype.
inline float load_row(const void* logits, DType dtype, std::int64_t offset, std::int64_t vocab_size,
                      const RowBuffer& row) {
  float largest = 0.0f;
  dispatch_dtype(dtype, [&](auto type) {
    largest = load_row(static_cast<const decltype(type)*>(logits) + offset, vocab_size, row);
  });
  return largest;
}

inline float load_row(const LogitsRows& logits, std::int64_t index, const RowBuffer& row) {
  return load_row(logits.data, logits.dtype, index * logits.stride, logits.vocab_size, row);
}

/// Takes out the tokens whose bit is not set, if there are bits. Returns the maximum of the others,
/// which `largest` is of all; NaN if any of them is.
inline float keep_allowed(const RowBuffer& row, const std::int32_t* allowed,
                          std::int64_t vocab_size, float largest) {
  if (allowed == nullptr) return largest;
  float* x = row.data();
  for (std::int64_t first = 0; first < vocab_size; first += 32) {
    const auto word = static_cast<std::uint32_t>(allowed[first / 32]);
    for (std::int64_t i = 0; i < 32; ++i) {  // a row is padded to whole tiles
      x[first + i] = word >> i & 1 ? x[first + i] : -kInfinity;
    }
  }
  Vec kept(-kInfinity);
  for (std::int64_t i = 0; i < row.size(); i += kLanes) {
    kept = at::vec::maximum(kept, load(x + i));
  }
  return max_or_nan(kept);
}

/// Index of the first element equal to `value`, which must occur.
inline std::int64_t find_first(const RowBuffer& row, float value) {
  const float* x = row.data();
  std::int64_t first = 0;
  for (;; first += kTile) {
    int found = 0;
    for (std::int64_t i = first; i < first + kTile; ++i) found |= x[i] == value;
    if (found) break;
  }
  while (x[first] != value) ++first;
  return first;
}

/// Sums over the row of each of term(i), an array of Vecs for the tokens i ... i + kLanes - 1:
/// chunks in float lanes, the chunks in double.
template <class Term>
auto sum_row(const RowBuffer& row, const Term& term) {
  constexpr std::int64_t kChunk = 8 * kTile;
  constexpr std::size_t kSums = std::tuple_size_v<decltype(term(0))>;
  std::array<double, kSums> totals{};
  for (std::int64_t begin = 0; begin < row.size(); begin += kChunk) {
    const std::int64_t end = std::min(begin + kChunk, row.size());
    auto even = term(begin);
    auto odd = term(begin + kLanes);
    for (std::int64_t i = begin + 2 * kLanes; i < end; i += 2 * kLanes) {
      const auto next_even = term(i);
      const auto next_odd = term(i + kLanes);
      for (std::size_t n = 0; n < kSums; ++n) {
        even[n] = even[n] + next_even[n];
        odd[n] = odd[n] + next_odd[n];
      }
    }
    for (std::size_t n = 0; n < kSums; ++n) totals[n] += sum(even[n] + odd[n]);
  }
  return totals;
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
