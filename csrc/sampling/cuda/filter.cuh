#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>

#include "sampling/cuda/crossing.cuh"

// What the filters keep of a row, found by one block from the tiles' maxima and weights: only tiles
// that can hold the last kept token are read.
namespace specbranch {

/// The warp's sum of exp(log weight).
__device__ inline float tile_weight(const Tile& tile, const Law& law) {
  float weight = 0.0f;
#pragma unroll
  for (int group = 0; group < kGroups; ++group) {
#pragma unroll
    for (int i = 0; i < 4; ++i) weight += expf(law.log_weight(tile.x[group][i]));
  }
  return warp_reduce(weight, Add{});
}

/// The row's maximum; NaN if a logit is.
template <class Stats>
__device__ float row_max(const Stats* tiles, std::int64_t count) {
  const LargestOrNan join;
  float largest = kNoLogit;
  for (std::int64_t t = threadIdx.x; t < count; t += kRowThreads) {
    largest = join(largest, tiles[t].max);
  }
  return block_reduce(largest, join);
}

/// Sum over the tiles of what `value(tile)` says relative to its maximum.
template <class Stats, class Value>
__device__ float row_sum(const Stats* tiles, std::int64_t count, const Law& law,
                         const Value& value) {
  float sum = 0.0f;
  for (std::int64_t t = threadIdx.x; t < count; t += kRowThreads) {
    if (tiles[t].max > kNoLogit) sum += expf(law.log_weight(tiles[t].max)) * value(tiles[t]);
  }
  return block_reduce(sum, Add{});
}

/// The k-th largest of the tiles' values, -FLT_MAX where fewer are finite: no token below it is
/// among the k first.
template <class Stats, class Value>
__device__ float kth_of_tiles(const Stats* tiles, std::int64_t count, std::int64_t k,
                              const Value& value) {
  const auto visit = [&](Key, const auto& use) {
    for (std::int64_t t = threadIdx.x; t < count; t += kRowThreads) {
      const float x = value(tiles[t]);
      if (x > kNoLogit) use(key_of(x, static_cast<std::int32_t>(t)), FixedWeight{1});
    }
  };
  const Key key =
      find_crossing(visit, static_cast<FixedWeight>(k),
                    {lowest_key(-FLT_MAX), highest_key(FLT_MAX), FixedWeight{0}, count});
  return key == 0 ? -FLT_MAX : value_of(key);
}

/// Weight of the tokens that are kept, by the block.
template <class T, class Stats>
__device__ float kept_weight(const Row<T>& row, const Stats* tiles, const Law& law,
                             const Cutoff& cutoff) {
  if (cutoff.keeps_all()) {
    return row_sum(tiles, num_tiles(row.vocab_size), law,
                   [](const Stats& tile) { return tile.weight; });
  }
  FixedWeight weight = 0;
  for_each_token(
      row, [&](std::int64_t t) { return cutoff.may_keep(law, tiles[t].max); },
      [&](float x, std::int32_t id) {
        if (cutoff.keeps(law, x, id)) weight += fixed_weight(law.log_weight(x));
      });
  return static_cast<float>(block_reduce(weight, Add{})) / kFixedUnits;
}

/// The key of the first token with the largest logit.
template <class T, class Stats>
__device__ Key argmax_key(const Row<T>& row, const Stats* tiles, const Law& law) {
  Key best = 0;
  for_each_token(
      row, [&](std::int64_t t) { return tiles[t].max == law.max; },
      [&](float x, std::int32_t id) { best = Largest{}(best, key_of(x, id)); });
  return block_reduce(best, Largest{});
}

/// The search for what top_k, top_p and min_p keep of a row.
template <class T, class Stats>
class Filtering {
 public:
  __device__ Filtering(const Row<T>& row, const Stats* tiles, const Law& law, const Filter& filter)
      : row_(row), tiles_(tiles), count_(num_tiles(row.vocab_size)), law_(law), filter_(filter) {}

  __device__ Cutoff find_cutoff() const {
    Cutoff cutoff;
    if (0 < filter_.top_k && filter_.top_k < row_.vocab_size) cutoff.lowest = top_k();
    if (filter_.top_p < 1.0f) cutoff.lowest = top_p(cutoff);
    if (filter_.min_p > 0.0f) cutoff.least_log_weight = min_p();
    return cutoff;
  }

 private:
  /// The key from which on the tokens' weights reach the limit, if it belongs to a logit of at
  /// least `floor` and is no lower than `low`.
  template <class Weight>
  __device__ Key cross(float floor, Key low, FixedWeight limit, const Weight& weight) const {
    const auto visit = [&](Key lowest, const auto& use) {
      for_each_token(
          row_, [&](std::int64_t t) { return highest_key(tiles_[t].max) > lowest; },
          [&](float x, std::int32_t id) { use(key_of(x, id), weight(x)); });
    };
    low = Largest{}(low, lowest_key(floor));
    return find_crossing(visit, limit, {low, highest_key(law_.max), 0, row_.vocab_size});
  }

  __device__ Key top_k() const {
    const float floor =
        kth_of_tiles(tiles_, count_, filter_.top_k, [](const Stats& tile) { return tile.max; });
    return cross(floor, 0, static_cast<FixedWeight>(filter_.top_k),
                 [](float) { return FixedWeight{1}; });
  }

  /// top_p of what `kept` keeps, renormalised. The token that crosses is kept.
  __device__ Key top_p(const Cutoff& kept) const {
    const float total = kept_weight(row_, tiles_, law_, kept);
    // From the crossing token on there are at most V tokens and at least 1 - top_p of the mass, so
    // its weight is at least (1 - top_p) total / V; 1 makes up for all rounding.
    const auto vocab_size = static_cast<float>(row_.vocab_size);
    const float least = logf((1.0f - filter_.top_p) * total / vocab_size) - 1.0f;
    const float floor = fmaxf(law_.max + least * filter_.temperature, -FLT_MAX);
    const double limit = static_cast<double>(filter_.top_p) * total * kFixedUnits;
    const Key crossing = cross(floor, kept.lowest, static_cast<FixedWeight>(fmax(ceil(limit), 1.0)),
                               [&](float x) { return fixed_weight(law_.log_weight(x)); });
    return Largest{}(crossing, kept.lowest);
  }

  /// The least float that is no less than log(min_p).
  __device__ float min_p() const {
    const double exact = log(static_cast<double>(filter_.min_p));
    const auto least = static_cast<float>(exact);
    return least < exact ? nextafterf(least, INFINITY) : least;
  }

  const Row<T>& row_;
  const Stats* tiles_;
  const std::int64_t count_;
  const Law& law_;
  const Filter& filter_;
};

/// What is kept of a row that has a law: the argmax alone at temperature 0.
template <class T, class Stats>
__device__ Cutoff find_cutoff(const Row<T>& row, const Stats* tiles, const Law& law,
                              const Filter& filter) {
  if (law.is_greedy) return {.lowest = argmax_key(row, tiles, law)};
  return Filtering<T, Stats>(row, tiles, law, filter).find_cutoff();
}

}  // namespace specbranch
