#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "attention/cpu/request_keys.h"
#include "common/cpu/vec.h"

namespace specbranch::SPECBRANCH_CPU_NS {

inline constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
inline constexpr float kLowest = std::numeric_limits<float>::lowest();
inline constexpr float kLog2E = 1.442695041f;

/// Weights may grow to 2^kHeadroom before a row's earlier ones are rescaled to a new base.
inline constexpr float kHeadroom = 8.0f;

/// A row's softmax so far, in base 2: weights are 2^(score - base).
struct RowState {
  float base = kLowest;
  float sum = 0.0f;
};

inline void cap_scores(float* scores, std::int64_t count, float softcap) {
  for (std::int64_t key = 0; key < count; key += kLanes) {
    store(scores + key, (load(scores + key) / Vec(softcap)).tanh() * Vec(softcap * kLog2E));
  }
}

/// Scores of invisible keys, among the first `count`, become -inf.
inline void hide_scores(float* scores, std::int64_t count, std::uint64_t visible) {
  for (std::uint64_t keys = ~visible & low_bits(count); keys != 0; keys &= keys - 1) {
    scores[std::countr_zero(keys)] = kMinusInfinity;
  }
}

/// The largest of `count` scores in each lane. NaN may get lost.
inline Vec max_of_lanes(const float* scores, std::int64_t count) {
  Vec result = load(scores);
  for (std::int64_t key = kLanes; key < count; key += kLanes) {
    result = at::vec::clamp_min(load(scores + key), result);
  }
  return result;
}

/// Scores become weights 2^(score - base). Returns their sum.
inline float weigh_scores(float* scores, std::int64_t count, float base) {
  Vec total(0.0f);
  for (std::int64_t key = 0; key < count; key += kLanes) {
    const Vec weights = exp2_in_range(load(scores + key) - Vec(base));
    store(scores + key, weights);
    total = total + weights;
  }
  return sum(total);
}

/// Adds `count` scores (whole vectors) of a row to its softmax; they become weights in place. Where
/// they outgrow the row's base, it rises to the largest, and `out`, of `dim` floats, is rescaled.
inline void update_softmax(float* scores, std::int64_t count, RowState& state, float* out,
                           std::int64_t dim) {
  const Vec largest = max_of_lanes(scores, count);
  if (any(largest > Vec(state.base + kHeadroom))) {
    const float base = max_ignoring_nan(largest);
    const float rescale = std::exp2(state.base - base);
    for (std::int64_t d = 0; d < dim; d += kLanes) store(out + d, load(out + d) * Vec(rescale));
    state = {base, state.sum * rescale};
  }
  state.sum += weigh_scores(scores, count, state.base);
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
