#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>

#include "common/gumbel.h"
#include "sampling/cuda/tile.cuh"
#include "sampling/params.h"

// A row's law, P(token) proportional to exp((logit - max) / temperature), and the scores by which
// tokens are drawn from it.
namespace specbranch {

struct Law {
  float max;
  float inverse_temperature;
  bool is_greedy;  // temperature 0: only the argmax counts

  __device__ bool exists() const { return max - max == 0.0f; }  // neither NaN nor infinite

  /// At most 0.
  __device__ float log_weight(float logit) const { return (logit - max) * inverse_temperature; }
};

/// Finite also for a denormal temperature: 0 times it must stay 0.
__device__ inline float inverse(float temperature) {
  return temperature == 0.0f ? 1.0f : fminf(1.0f / temperature, FLT_MAX);
}

__device__ inline Law law_of(float max, float temperature) {
  return {max, inverse(temperature), temperature == 0.0f};
}

/// Sums of weights are kept in units of 2^-40: exact, so the same in any order.
using FixedWeight = std::uint64_t;
inline constexpr float kFixedUnits = 0x1p40f;

__device__ inline FixedWeight fixed_weight(float log_weight) {
  return static_cast<FixedWeight>(expf(log_weight) * kFixedUnits);
}

/// Values and ids as integers that rise with the value and, at equal values, fall with the id.
using Key = std::uint64_t;

__device__ inline std::uint32_t ordered_bits(float value) {
  const auto bits = __builtin_bit_cast(std::uint32_t, value + 0.0f);  // one zero only
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
__device__ inline float from_ordered_bits(std::uint32_t ordered) {
  return __builtin_bit_cast(float, ordered >> 31 ? ordered & 0x7FFFFFFFu : ~ordered);
}

__device__ inline Key key_of(float value, std::int32_t id) {
  return Key{ordered_bits(value)} << 32 | ~static_cast<std::uint32_t>(id);
}
/// Below all keys of the value, above all keys of smaller ones.
__device__ inline Key lowest_key(float value) { return Key{ordered_bits(value)} << 32; }
__device__ inline Key highest_key(float value) { return lowest_key(value) + (Key{1} << 32); }
__device__ inline float value_of(Key key) {
  return from_ordered_bits(static_cast<std::uint32_t>(key >> 32));
}
__device__ inline std::int32_t id_of(Key key) {
  return static_cast<std::int32_t>(~static_cast<std::uint32_t>(key));
}

/// Which tokens of a row its filters keep: a prefix of the tokens by falling logits (ties: rising
/// ids), cut by rank or mass, and what min_p leaves of it.
struct Cutoff {
  Key lowest = 0;
  float least_log_weight = kNoLogit;

  __device__ bool keeps_all() const { return lowest == 0 && least_log_weight == kNoLogit; }
  __device__ bool keeps(const Law& law, float logit, std::int32_t id) const {
    return key_of(logit, id) >= lowest && law.log_weight(logit) >= least_log_weight;
  }
  /// False only where no token of a tile with this maximum is kept.
  __device__ bool may_keep(const Law& law, float tile_max) const {
    return highest_key(tile_max) > lowest && law.log_weight(tile_max) >= least_log_weight;
  }
};

/// Noise words of four neighbouring columns, which are the tokens themselves or stand for
/// token_ids[column].
struct ColumnWords {
  NoiseSource source;
  const std::int32_t* token_ids = nullptr;
  std::int64_t vocab_size = 0;

  __device__ void operator()(std::int64_t first, std::uint32_t (&words)[4]) const {
    if (token_ids == nullptr) {
      const PhiloxWords four = source.group_words(static_cast<std::uint32_t>(first / 4));
      words[0] = four.w0;
      words[1] = four.w1;
      words[2] = four.w2;
      words[3] = four.w3;
      return;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::int64_t column = first + i < vocab_size ? first + i : vocab_size - 1;
      words[i] = source.word(static_cast<std::uint32_t>(token_ids[column]));
    }
  }
};

}  // namespace specbranch
