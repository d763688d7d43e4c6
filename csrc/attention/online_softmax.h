#pragma once

#include <algorithm>
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

inline float max_score(const float* scores, std::int64_t count) {
  Vec result(kMinusInfinity);
  for (std::int64_t key = 0; key < count; key += kLanes) {
    result = at::vec::maximum(result, load(scores + key));
  }
  return max(result);
}

/// Scores become weights exp(score - base). Returns their sum.
inline float weigh_scores(float* scores, std::int64_t count, float base) {
  Vec total(0.0f);
  for (std::int64_t key = 0; key < count; key += kLanes) {
    const Vec weights = exp_nonpositive(load(scores + key) - Vec(base));
    store(scores + key, weights);
    total = total + weights;
  }
  return sum(total);
}

/// Adds `count` scores (whole vectors) of each row of a panel to the rows' softmax. The scores
/// become weights in place; rescale[row] is what the row's earlier weights shrink by.
template <int num_rows>
void update_softmax(float* scores, std::int64_t count, RowState* states, float* rescale) {
  constexpr std::int64_t kPadded = round_up_to_lanes(num_rows);
  float bases[num_rows];
  alignas(64) float shrinkage[kPadded] = {};
  for (int r = 0; r < num_rows; ++r) {
    const float new_max = std::max(states[r].max, max_score(scores + r * kTileKeys, count));
    bases[r] = new_max == kMinusInfinity ? 0.0f : new_max;  // nothing visible so far
    shrinkage[r] = states[r].max - bases[r];
    states[r].max = new_max;
  }
  for (std::int64_t r = 0; r < kPadded; r += kLanes) {
    store(shrinkage + r, exp_nonpositive(load(shrinkage + r)));
  }
  for (int r = 0; r < num_rows; ++r) {
    rescale[r] = shrinkage[r];
    states[r].sum =
        states[r].sum * rescale[r] + weigh_scores(scores + r * kTileKeys, count, bases[r]);
  }
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
