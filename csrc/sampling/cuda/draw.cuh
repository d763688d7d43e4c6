#pragma once

#include <cstdint>

#include "sampling/cuda/filter.cuh"

// One draw from a row: its token of highest score,
//
//   score(token) = (logit - max) / temperature + Gumbel noise,    in one fused multiply-add.
//
// The pass over the row knows the maximum of each tile only, so it bounds each tile's scores by
// scores relative to that. The row's maximum then decides, with the very bits of every other
// implementation, between the few tokens of the one tile (rarely more) that can hold the winner.
namespace specbranch {

/// No noise is smaller.
inline constexpr float kMinGumbel = -3.25f;

/// More than rounding can move a score that matters (one above kMinGumbel, which is that of a logit
/// at most 27 temperatures below the maximum) when its origin changes.
inline constexpr float kScoreSlack = 0x1p-10f;

__device__ inline float score_of(const Law& law, float logit, std::uint32_t word) {
  return perturbed_score(logit, law.max, law.inverse_temperature, gumbel_noise(word));
}

/// At least the score, without its two logarithms.
__device__ inline float score_bound(const Law& law, float logit, std::uint32_t word) {
  return perturbed_score(logit, law.max, law.inverse_temperature, gumbel_bound(word));
}

/// No noise makes a score of these four higher.
__device__ inline float score_bound(const Law& law, const float (&x)[4]) {
  const float top = fmaxf(fmaxf(x[0], x[1]), fmaxf(x[2], x[3]));
  return perturbed_score(top, law.max, law.inverse_temperature, kMaxGumbel);
}

/// The token of this lane whose score has the highest bound, and the second highest bound.
struct LaneFavourite {
  float bound = kNoLogit, next_bound = kNoLogit;
  float logit = kNoLogit;
  std::uint32_t word = 0;

  __device__ void offer(float other_bound, float other_logit, std::uint32_t other_word) {
    next_bound = fmaxf(next_bound, fminf(bound, other_bound));
    if (!(other_bound > bound)) return;
    bound = other_bound;
    logit = other_logit;
    word = other_word;
  }
};

__device__ inline LaneFavourite lane_favourite(const Tile& tile, const Law& law,
                                               const ColumnWords& words) {
  LaneFavourite favourite;
#pragma unroll
  for (int group = 0; group < kGroups; ++group) {
    std::uint32_t word[4];
    words(first_token(tile.index, group), word);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float x = tile.x[group][i];
      favourite.offer(score_bound(law, x, word[i]), x, word[i]);
    }
  }
  return favourite;
}

/// The warp's highest score, by a law whose maximum is the tile's. It is that of a lane's favourite
/// but for one tile in hundreds, so that a lane computes one score of its sixteen.
template <class T>
__device__ float tile_best(const Row<T>& row, const Tile& tile, const Law& law,
                           const ColumnWords& words) {
  const LaneFavourite favourite = lane_favourite(tile, law, words);
  float best = fmaxf(kMinGumbel, score_of(law, favourite.logit, favourite.word));
  best = warp_reduce(best, Largest{});
  if (!__any_sync(kFullWarp, favourite.next_bound > best)) return best;
#pragma unroll 1  // rare, so short
  for (int group = 0; group < kGroups; ++group) {
    const std::int64_t first = first_token(tile.index, group);
    float x[4];
    std::uint32_t word[4];
    row.load(first, x);
    words(first, word);
#pragma unroll
    for (int i = 0; i < 4; ++i) best = fmaxf(best, score_of(law, x[i], word[i]));
  }
  return warp_reduce(best, Largest{});
}

/// At least the highest score of the tile, but for kScoreSlack.
template <class Stats>
__device__ float best_of_tile(const Law& law, const Stats& tile) {
  return tile.best + law.log_weight(tile.max);
}

/// The token of highest score among those that are kept; ties go to the lowest id.
template <class T, class Stats>
__device__ std::int32_t draw_token(const Row<T>& row, const Stats* tiles, const Law& law,
                                   const Cutoff& cutoff, const ColumnWords& words) {
  const std::int64_t count = num_tiles(row.vocab_size);
  float start = kMinGumbel;  // the argmax is always kept, and has no lower score
  if (cutoff.keeps_all()) {
    for (std::int64_t t = threadIdx.x; t < count; t += kRowThreads) {
      start = fmaxf(start, best_of_tile(law, tiles[t]));
    }
    start = block_reduce(start, Largest{});
  }
  start -= kScoreSlack;

  const auto wanted = [&](std::int64_t t) {
    return best_of_tile(law, tiles[t]) >= start - kScoreSlack && cutoff.may_keep(law, tiles[t].max);
  };
  float best = start;
  Key winner = 0;
  for_each_tile(count, wanted, [&](std::int64_t index) {
    const Tile tile(row, index);
    std::uint32_t word[kGroups][4];
#pragma unroll
    for (int group = 0; group < kGroups; ++group) words(first_token(index, group), word[group]);
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float x = tile.x[group][i];
        if (!(score_bound(law, x, word[group][i]) >= best)) continue;
        const auto id = static_cast<std::int32_t>(first_token(index, group) + i);
        const float score = score_of(law, x, word[group][i]);
        if (score < best || !cutoff.keeps(law, x, id)) continue;
        best = score;
        winner = Largest{}(winner, key_of(score, id));
      }
    }
  });
  return id_of(block_reduce(winner, Largest{}));
}

/// The pass over a row: the warp writes what it leaves of its tile, if the row has that; the weight
/// only if it is wanted.
template <class T>
__device__ void write_stats(const Row<T>& row, const LoadingTile<T>& loading, float temperature,
                            const ColumnWords& words, bool wants_weight, TileStats* tiles) {
  if (loading.index >= num_tiles(row.vocab_size)) return;
  const Tile tile(loading);
  const Law law = law_of(tile.max(), temperature);
  const float weight = wants_weight ? tile_weight(tile, law) : 0.0f;
  const float best = law.is_greedy ? 0.0f : tile_best(row, tile, law, words);
  if (lane_index() == 0) tiles[tile.index] = {law.max, weight, best};
}

}  // namespace specbranch
