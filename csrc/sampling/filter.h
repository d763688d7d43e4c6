#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "sampling/row.h"

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
  /// Lanes of the tokens i ... i + kLanes - 1 that are kept, all bits set.
  Vec keeps(const Vec& x, std::int64_t i) const {
    const Vec id = Vec::arange(static_cast<float>(i), 1.0f);  // exact below 2^24
    return (x > Vec(logit)) | ((x == Vec(logit)) & (id <= Vec(static_cast<float>(last_id))));
  }
};

/// Whether `a` keeps no more than `b`.
inline bool is_tighter(const Cutoff& a, const Cutoff& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.last_id < b.last_id);
}

/// P(x) is proportional to exp((logit(x) - max) * inverse_temperature) over the kept tokens.
struct Law {
  float max;
  std::int32_t argmax;  // the lowest of the best tokens, always kept
  float inverse_temperature;
  Cutoff cutoff;
};

/// A row with a NaN, or whose maximum is not finite, has no law.
inline bool has_law(float max) { return std::isfinite(max); }

/// (logit - max) * inverse_temperature of the tokens i ... i + kLanes - 1: at most 0.
inline Vec log_weights(const RowBuffer& row, const Law& law, std::int64_t i) {
  return (Vec::loadu(row.data() + i) - Vec(law.max)) * Vec(law.inverse_temperature);
}

/// Writes exp(log weight) of the kept tokens, 0 for the others; returns the sum.
inline double fill_weights(const RowBuffer& row, const Law& law, const RowBuffer& weights) {
  const auto [total] = sum_row(row, [&](std::int64_t i) {
    const Vec kept = law.cutoff.keeps(Vec::loadu(row.data() + i), i);
    const Vec weight = exp_nonpositive(log_weights(row, law, i)) & kept;
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
    const Vec above = Vec::loadu(row.data() + i) > Vec(logit);
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

/// The first token, in the order of falling logits, with which the weights reach `limit`.
/// weight(i): a Vec of the tokens from i on; weight_of(id): of one token.
template <class Weight, class WeightOf>
Cutoff find_crossing(const RowBuffer& row, const Weight& weight, const WeightOf& weight_of,
                     float max, double limit) {
  Bracket bracket{-kInfinity, max, sum_above(row, weight, -kInfinity), {0.0, 0.0}};
  if (bracket.above_low.weight < limit) return {};
  narrow(row, weight, limit, bracket);
  const std::vector<Cutoff> tokens = sorted_tokens(row, bracket);
  double reached = bracket.above_high.weight;
  return *std::find_if(tokens.begin(), tokens.end() - 1, [&](const Cutoff& token) {
    reached += weight_of(token.last_id);
    return reached >= limit;
  });
}

inline Cutoff top_k_cutoff(const RowBuffer& row, float max, std::int32_t top_k) {
  return find_crossing(
      row, [](std::int64_t) { return Vec(1.0f); }, [](std::int32_t) { return 1.0; }, max, top_k);
}

/// top_p of what law.cutoff keeps. The token that crosses is kept.
inline Cutoff top_p_cutoff(const RowBuffer& row, const Law& law, float top_p,
                           const RowBuffer& weights) {
  const double total = fill_weights(row, law, weights);
  return find_crossing(
      row, [&](std::int64_t i) { return Vec::loadu(weights.data() + i); },
      [&](std::int32_t id) { return weights.data()[id]; }, law.max, top_p * total);
}

/// Keeps exp((logit - max) / temperature) >= min_p, ties included.
inline Cutoff min_p_cutoff(const RowBuffer& row, const Law& law, float min_p) {
  const double exact = std::log(static_cast<double>(min_p));
  auto least = static_cast<float>(exact);
  if (least < exact) least = std::nextafter(least, kInfinity);
  Vec lowest(law.max);
  for (std::int64_t i = 0; i < row.size(); i += kLanes) {
    const Vec smaller = at::vec::minimum(lowest, Vec::loadu(row.data() + i));
    lowest = Vec::blendv(lowest, smaller, log_weights(row, law, i) >= Vec(least));
  }
  return {-max_or_nan(lowest.neg()), std::numeric_limits<std::int32_t>::max()};
}

/// The one definition of the filtered law. `max` is the row's, and finite; `weights` is scratch of
/// the row's size. Temperature 0 is the law whose only token is the argmax.
inline Law find_law(const RowBuffer& row, float max, const Filter& filter, const RowBuffer& weights) {
  Law law{max, static_cast<std::int32_t>(find_first(row, max)), 1.0f, {}};
  if (filter.temperature == 0.0f) {
    law.cutoff = {max, law.argmax};
    return law;
  }
  // Finite also for a denormal temperature: 0 times it must stay 0.
  law.inverse_temperature =
      std::min(1.0f / filter.temperature, std::numeric_limits<float>::max());
  if (filter.top_k > 0 && filter.top_k < row.size()) {
    law.cutoff = top_k_cutoff(row, max, filter.top_k);
  }
  if (filter.top_p < 1.0f) {
    const Cutoff cutoff = top_p_cutoff(row, law, filter.top_p, weights);
    if (is_tighter(cutoff, law.cutoff)) law.cutoff = cutoff;
  }
  if (filter.min_p > 0.0f) {
    const Cutoff cutoff = min_p_cutoff(row, law, filter.min_p);
    if (is_tighter(cutoff, law.cutoff)) law.cutoff = cutoff;
  }
  return law;
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
