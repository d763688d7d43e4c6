#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "sampling/cpu/row.h"

// The law of a row of logits after temperature, top_k, top_p and min_p. Each filter keeps a prefix
// of the tokens in the order of falling logits (ties: rising ids), so what is kept is described by
// its last token alone, which is found without sorting the row.
namespace specbranch::SPECBRANCH_CPU_NS {

/// The last token that is kept.
struct Cutoff {
  float logit = -kInfinity;
  std::int32_t last_id = std::numeric_limits<std::int32_t>::max();

  bool keeps(float x, std::int32_t id) const {
    return (x > logit) | ((x == logit) & (id <= last_id));
  }
};

/// The one that keeps less.
inline Cutoff tighter(const Cutoff& a, const Cutoff& b) {
  return b.keeps(a.logit, a.last_id) ? a : b;
}

/// P(token) is proportional to exp((logit - max) * inverse_temperature).
struct Law {
  float max;
  float inverse_temperature;
};

/// A row with a NaN, or whose maximum is not finite, has no law.
inline bool has_law(float max) { return std::isfinite(max); }

/// Temperature 0, where only the argmax counts, leaves the logits as they are.
inline Law law_of(float max, float temperature) {
  // Finite also for a denormal temperature: 0 times it must stay 0.
  constexpr float kLargest = std::numeric_limits<float>::max();
  return {max, temperature == 0.0f ? 1.0f : std::min(1.0f / temperature, kLargest)};
}

/// (logit - max) * inverse_temperature of the tokens i ... i + kLanes - 1: at most 0.
inline Vec log_weights(const RowBuffer& row, const Law& law, std::int64_t i) {
  return (load(row.data() + i) - Vec(law.max)) * Vec(law.inverse_temperature);
}

/// e^x for x <= 0, down to the smallest subnormal number.
inline Vec exp_gradual(const Vec& x) {
  const Vec is_small = x < Vec(-87.0f);
  const Vec shifted = Vec::blendv(x, x + Vec(16.6355323f), is_small);  // by 24 log 2
  const Vec result = exp_nonpositive(shifted);
  return Vec::blendv(result, result * Vec(0x1p-24f), is_small);
}

/// Writes exp(log weight) of every token; returns the sum.
inline double fill_weights(const RowBuffer& row, const Law& law, const RowBuffer& weights) {
  const auto [total] = sum_row(row, [&](std::int64_t i) {
    const Vec weight = exp_gradual(log_weights(row, law, i));
    weight.store(weights.data() + i);
    return std::array{weight};
  });
  return total;
}

/// What lies above a logit.
struct Above {
  double weight;
  double count;
};

template <class Weight>
Above sum_above(const RowBuffer& row, const Weight& weight, float logit) {
  const auto [total, count] = sum_row(row, [&](std::int64_t i) {
    const Vec above = load(row.data() + i) > Vec(logit);
    return std::array{weight(i) & above, Vec(1.0f) & above};
  });
  return {total, count};
}

/// Floats as integers of the same order.
inline std::int32_t ordered_bits(float x) {
  const auto bits = __builtin_bit_cast(std::int32_t, x);
  return bits < 0 ? std::numeric_limits<std::int32_t>::min() - bits : bits;
}
inline float from_ordered_bits(std::int32_t ordered) {
  const std::int32_t bits =
      ordered < 0 ? std::numeric_limits<std::int32_t>::min() - ordered : ordered;
  return __builtin_bit_cast(float, bits);
}

/// A float in (low, high), or `low` where there is none. The middle of the values narrows ordinary
/// rows fast; every other time the middle of the bit patterns bounds the number of steps.
inline float between(float low, float high, bool by_value) {
  const float middle = 0.5f * low + 0.5f * high;
  if (by_value && low < middle && middle < high) return middle;
  const std::int64_t sum = std::int64_t{ordered_bits(low)} + ordered_bits(high);
  return from_ordered_bits(static_cast<std::int32_t>(sum >> 1));
}

/// Tokens with low < logit <= high, and what lies above either end.
struct Bracket {
  float low, high;
  Above above_low, above_high;
};

/// Narrows the bracket around the token with which the weights reach `limit`, down to a few tokens
/// or to ties.
template <class Weight>
void narrow(const RowBuffer& row, const Weight& weight, double limit, Bracket& bracket) {
  constexpr double kFew = 128;
  for (bool by_value = true; bracket.above_low.count - bracket.above_high.count > kFew;
       by_value = !by_value) {
    const float middle = between(bracket.low, bracket.high, by_value);
    if (middle == bracket.low) return;
    const Above above = sum_above(row, weight, middle);
    if (above.weight < limit) {
      bracket.high = middle;
      bracket.above_high = above;
    } else {
      bracket.low = middle;
      bracket.above_low = above;
    }
  }
}

/// The tokens of the bracket, by falling logit (ties: rising id).
inline std::vector<Cutoff> sorted_tokens(const RowBuffer& row, const Bracket& bracket) {
  std::vector<Cutoff> tokens;
  const float* x = row.data();
  const auto is_inside = [&](std::int64_t i) {
    return (x[i] > bracket.low) & (x[i] <= bracket.high);
  };
  for (std::int64_t first = 0; first < row.size(); first += kTile) {
    int found = 0;
    for (std::int64_t i = first; i < first + kTile; ++i) found |= is_inside(i);
    if (!found) continue;
    for (std::int64_t i = first; i < first + kTile; ++i) {
      if (is_inside(i)) tokens.push_back({x[i], static_cast<std::int32_t>(i)});
    }
  }
  std::stable_sort(tokens.begin(), tokens.end(),
                   [](const Cutoff& a, const Cutoff& b) { return a.logit > b.logit; });
  return tokens;
}

/// The first token, in the order of falling logits, with which the weights reach `limit`, given a
/// bracket around it. weight(i): a Vec of the tokens from i on; weight_of(id): of one token.
template <class Weight, class WeightOf>
Cutoff find_crossing(const RowBuffer& row, const Weight& weight, const WeightOf& weight_of,
                     double limit, Bracket bracket) {
  narrow(row, weight, limit, bracket);
  const std::vector<Cutoff> tokens = sorted_tokens(row, bracket);
  double reached = bracket.above_high.weight;
  return *std::find_if(tokens.begin(), tokens.end() - 1, [&](const Cutoff& token) {
    reached += weight_of(token.last_id);
    return reached >= limit;
  });
}

inline Cutoff top_k_cutoff(const RowBuffer& row, float max, std::int32_t top_k) {
  const auto one = [](std::int64_t) { return Vec(1.0f); };
  const Above all = sum_above(row, one, -kInfinity);
  if (all.count <= top_k) return {};
  return find_crossing(row, one, [](std::int32_t) { return 1.0; }, top_k,
                       {-kInfinity, max, all, {0.0, 0.0}});
}

/// top_p of what `kept` keeps, renormalised. The token that crosses is kept.
inline Cutoff top_p_cutoff(const RowBuffer& row, const Law& law, const Cutoff& kept, float top_p,
                           const RowBuffer& weights) {
  fill_weights(row, law, weights);
  float* w = weights.data();
  for (std::int32_t i = 0; i < row.size(); ++i) w[i] = kept.keeps(row.data()[i], i) ? w[i] : 0.0f;
  const auto weight = [&](std::int64_t i) { return load(w + i); };
  const float below = std::nextafter(kept.logit, -kInfinity);
  const Above all = sum_above(row, weight, below);
  return find_crossing(row, weight, [&](std::int32_t id) { return w[id]; }, top_p * all.weight,
                       {below, law.max, all, {0.0, 0.0}});
}

/// Keeps the tokens with exp(log weight) >= min_p.
inline Cutoff min_p_cutoff(const RowBuffer& row, const Law& law, float min_p) {
  const double exact = std::log(static_cast<double>(min_p));
  auto least = static_cast<float>(exact);
  if (least < exact) least = std::nextafter(least, kInfinity);
  Vec lowest(law.max);
  for (std::int64_t i = 0; i < row.size(); i += kLanes) {
    const Vec smaller = at::vec::minimum(lowest, load(row.data() + i));
    lowest = Vec::blendv(lowest, smaller, log_weights(row, law, i) >= Vec(least));
  }
  return {-max_or_nan(lowest.neg()), std::numeric_limits<std::int32_t>::max()};
}

/// What the filter keeps. `weights` is scratch.
inline Cutoff find_cutoff(const RowBuffer& row, const Law& law, const Filter& filter,
                          const RowBuffer& weights) {
  if (filter.temperature == 0.0f) {
    return {law.max, static_cast<std::int32_t>(find_first(row, law.max))};
  }
  Cutoff cutoff;
  if (filter.top_k > 0) cutoff = top_k_cutoff(row, law.max, filter.top_k);
  if (filter.top_p < 1.0f) {
    cutoff = tighter(cutoff, top_p_cutoff(row, law, cutoff, filter.top_p, weights));
  }
  if (filter.min_p > 0.0f) cutoff = tighter(cutoff, min_p_cutoff(row, law, filter.min_p));
  return cutoff;
}

/// Lowers the logits of the tokens that are not kept: by infinity, to exclude them.
inline void penalise(const RowBuffer& row, const Cutoff& cutoff, float penalty) {
  if (cutoff.logit == -kInfinity) return;
  float* x = row.data();
  for (std::int32_t i = 0; i < row.size(); ++i) {
    const float lowered = x[i] - penalty;
    x[i] = cutoff.keeps(x[i], i) ? x[i] : lowered;
  }
}

/// The one definition of the filtered law: tokens that are not kept get logit -inf. `max` is the
/// row's, and finite; `weights` is scratch.
inline Law filter_row(const RowBuffer& row, float max, const Filter& filter,
                      const RowBuffer& weights) {
  const Law law = law_of(max, filter.temperature);
  penalise(row, find_cutoff(row, law, filter, weights), kInfinity);
  return law;
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
