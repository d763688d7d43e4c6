#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "attention/request_keys.h"
#include "common/vec.h"

namespace specbranch::SPECBRANCH_CPU_NS {

inline constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

/// A row's softmax so far: weights are exp(score - max).
struct RowState {
  float max;
  float sum;
};

inline void cap_scores(float* scores, std::int64_t count, float softcap) {
  for (std::int64_t key = 0; key < count; key += kLanes) {
    store(scores + key, (load(scores + key) / Vec(softcap)).tanh() * Vec(softcap));
  }
}

/// Scores of invisible keys, among the first `count`, become -inf.
inline void hide_scores(float* scores, std::int64_t count, std::uint64_t visible) {
  for (std::uint64_t keys = ~visible & low_bits(count); keys != 0; keys &= keys - 1) {
    scores[std::countr_zero(keys)] = kMinusInfinity;
  }
}

/// Adds `count` scores (whole vectors) to a row's softmax: they become weights in place, and the
/// result is the factor by which the row's earlier weights shrink.
inline float update_row(float* scores, std::int64_t count, RowState& state) {
  Vec max_scores(kMinusInfinity);
  for (std::int64_t key = 0; key < count; key += kLanes) {
    max_scores = at::vec::maximum(max_scores, load(scores + key));
  }
  const float new_max = std::max(state.max, max(max_scores));
  const float base = new_max == kMinusInfinity ? 0.0f : new_max;  // nothing visible so far

  Vec weight_sums(0.0f);
  for (std::int64_t key = 0; key < count; key += kLanes) {
    const Vec weights = exp_nonpositive(load(scores + key) - Vec(base));
    store(scores + key, weights);
    weight_sums = weight_sums + weights;
  }
  const float rescale = std::exp(state.max - base);
  state = {new_max, state.sum * rescale + sum(weight_sums)};
  return rescale;
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
