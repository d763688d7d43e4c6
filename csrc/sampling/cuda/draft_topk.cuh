#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>

#include "common/cuda/last_block.cuh"
#include "sampling/cuda/row_law.cuh"

// The guesses of a row are its k tokens of highest score. The tiles' best scores tell how high the
// k-th best is at least, so the last block reads again only the few tiles that reach it.
namespace specbranch {

/// At least what kSoftPenalty takes off a score. It is taken off the logit, kSoftPenalty times the
/// temperature, and the difference may round down further.
inline constexpr float kMaxPenalty = 2.0f * kSoftPenalty;

/// Below, a log weight has no weight.
inline constexpr float kLeastLogWeight = -100.0f;

/// TileStats, and what the estimates need.
struct DraftStats {
  float max;
  float weight;        // sum of exp(log weight)
  float moment;        // sum of log weight * exp(log weight)
  float best;          // highest score
  float score_weight;  // sum of exp(score - kMaxGumbel)
};

/// exp(score - kMaxGumbel), which cannot overflow.
__device__ inline float score_weight(float score) { return expf(score - kMaxGumbel); }

/// The warp's sum of log weight * exp(log weight).
__device__ inline float tile_moment(const Tile& tile, const Law& law) {
  float moment = 0.0f;
#pragma unroll
  for (int group = 0; group < kGroups; ++group) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float z = fmaxf(law.log_weight(tile.x[group][i]), kLeastLogWeight);
      moment += z * expf(z);
    }
  }
  return warp_reduce(moment, Add{});
}

/// Adds the scores of all tokens of the tile to its stats, unfiltered.
__device__ inline void add_scores(const Tile& tile, std::int64_t index, const Law& law,
                                  const ColumnWords& words, DraftStats& stats) {
  float best = kMinGumbel, total = 0.0f;
#pragma unroll
  for (int group = 0; group < kGroups; ++group) {
    std::uint32_t word[4];
    words(first_token(index, group), word);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float score = score_of(law, tile.x[group][i], word[i]);
      best = fmaxf(best, score);
      total += score_weight(score);
    }
  }
  stats.best = warp_reduce(best, Largest{});
  stats.score_weight = warp_reduce(total, Add{});
}

/// The guesses of one row, by the block that came last to it.
template <class T>
class Guesses {
 public:
  __device__ Guesses(const DraftTopkParams& p, std::int64_t r, const Row<T>& row,
                     const DraftStats* tiles, const ColumnWords& words)
      : p_(p),
        filter_(p.filters[r]),
        row_(row),
        tiles_(tiles),
        count_(num_tiles(row.vocab_size)),
        law_(law_of(row_max(tiles, count_), filter_.temperature)),
        words_(words),
        r_(r) {}

  __device__ void write() const {
    for (std::int64_t i = threadIdx.x; i < p_.k; i += kRowThreads) write_guess(i, -1, 0.0f);
    if (!law_.exists()) return write_confidence(NAN, NAN);
    const float total = row_sum(tiles_, count_, law_, [](const DraftStats& t) { return t.weight; });
    const float moment = row_sum(tiles_, count_, law_, [&](const DraftStats& t) {
      return t.moment + fmaxf(law_.log_weight(t.max), kLeastLogWeight) * t.weight;
    });
    const float max_prob = 1.0f / total;
    write_confidence(max_prob, logf(total) - moment / total);
    if (law_.is_greedy) {
      rank_logits(max_prob);
    } else if (p_.coupling == Coupling::kGumbel) {
      rank_scores();
    } else {
      rank_draws();
    }
  }

 private:
  /// Temperature 0: the best logits; estimates are their softmax.
  __device__ void rank_logits(float max_prob) const {
    const float floor =
        kth_of_tiles(tiles_, count_, p_.k, [](const DraftStats& t) { return t.max; });
    select(
        floor, law_.max, [&](std::int64_t t) { return tiles_[t].max >= floor; },
        [](const float (&)[4]) { return true; },
        [](std::int64_t, float x, std::uint32_t) { return x; },
        [&](Key key) { return expf(law_.log_weight(value_of(key))) * max_prob; });
  }

  /// Gumbel coupling: the best scores, of which tokens outside the filter lose kSoftPenalty;
  /// estimates are their softmax.
  __device__ void rank_scores() const {
    const Cutoff cutoff = find_cutoff(row_, tiles_, law_, filter_);
    const float penalty = kSoftPenalty * filter_.temperature;
    const float floor = score_floor(cutoff.keeps_all() ? 0.0f : kMaxPenalty);
    const float total = total_score_weight(cutoff);
    select(
        floor, kMaxGumbel, [&](std::int64_t t) { return best_of_tile(law_, tiles_[t]) >= floor; },
        [&](const float (&x)[4]) { return score_bound(law_, x) >= floor; },
        [&](std::int64_t id, float x, std::uint32_t word) {
          const bool kept = cutoff.keeps(law_, x, static_cast<std::int32_t>(id));
          return score_of(law_, kept ? x : x - penalty, word);
        },
        [&](Key key) { return score_weight(value_of(key)) / total; });
  }

  /// Rejection coupling: draws without replacement from the law; estimates are its probabilities.
  __device__ void rank_draws() const {
    RowLaw law{law_, find_cutoff(row_, tiles_, law_, filter_), 0.0f};
    law.scale = 1.0f / kept_weight(row_, tiles_, law_, law.cutoff);
    const float floor = law.cutoff.keeps_all() ? score_floor(0.0f) : -FLT_MAX;
    select(
        floor, kMaxGumbel,
        [&](std::int64_t t) {
          return law.cutoff.may_keep(law_, tiles_[t].max) && best_of_tile(law_, tiles_[t]) >= floor;
        },
        [&](const float (&x)[4]) { return score_bound(law_, x) >= floor; },
        [&](std::int64_t id, float x, std::uint32_t word) {
          return law.weight(x, id) > 0.0f ? score_of(law_, x, word) : kNoLogit;
        },
        [&](Key key) { return law.weight(row_[id_of(key)], id_of(key)) * law.scale; });
  }

  /// At least k tokens, if there are as many tiles, reach this score although each of them may have
  /// lost `penalty`; and so does the bound of every tile in which one does.
  __device__ float score_floor(float penalty) const {
    const float kth = kth_of_tiles(tiles_, count_, p_.k,
                                   [&](const DraftStats& t) { return best_of_tile(law_, t); });
    // Far below the maximum, rounding grows with the score.
    const float slack = 2.0f * kScoreSlack + fabsf(kth) * 0x1p-20f;
    return fmaxf(kth - slack - penalty, -FLT_MAX);
  }

  __device__ float total_score_weight(const Cutoff& cutoff) const {
    const float all =
        row_sum(tiles_, count_, law_, [](const DraftStats& t) { return t.score_weight; });
    if (cutoff.keeps_all()) return all;
    float kept = 0.0f;
    for_each_scored([&](std::int64_t t) { return cutoff.may_keep(law_, tiles_[t].max); },
                    [](const float (&)[4]) { return true; },
                    [&](std::int64_t id, float x, std::uint32_t word) {
                      if (cutoff.keeps(law_, x, static_cast<std::int32_t>(id))) {
                        kept += score_weight(score_of(law_, x, word));
                      }
                    });
    kept = block_reduce(kept, Add{});
    const float lost = expf(-kSoftPenalty);
    return lost * all + (1.0f - lost) * kept;
  }

  /// Calls visit(column, logit, noise word) for the groups of four that matter, in the tiles that
  /// are wanted.
  template <class Wanted, class Matters, class Visit>
  __device__ void for_each_scored(const Wanted& wanted, const Matters& matters,
                                  const Visit& visit) const {
    for_each_tile(count_, wanted, [&](std::int64_t index) {
#pragma unroll 1  // the noise of four tokens at a time keeps every unit busy, and registers free
      for (int group = 0; group < kGroups; ++group) {
        const std::int64_t first = first_token(index, group);
        float x[4];
        row_.load(first, x);
        if (!matters(x)) continue;
        std::uint32_t word[4];
        words_(first, word);
#pragma unroll
        for (int i = 0; i < 4; ++i) visit(first + i, x[i], word[i]);
      }
    });
  }

  /// Writes the k tokens of highest score, of those from `floor` to `highest`; `estimate` is given
  /// the key of a token's score and column.
  template <class Wanted, class Matters, class Score, class Estimate>
  __device__ void select(float floor, float highest, const Wanted& wanted, const Matters& matters,
                         const Score& score, const Estimate& estimate) const {
    const auto visit = [&](Key, const auto& use) {
      for_each_scored(wanted, matters, [&](std::int64_t column, float x, std::uint32_t word) {
        const float s = score(column, x, word);
        if (s > kNoLogit) use(key_of(s, static_cast<std::int32_t>(column)), FixedWeight{1});
      });
    };
    Bracket bracket{lowest_key(floor), highest_key(highest), 0, row_.vocab_size};
    const Key last = find_crossing(visit, static_cast<FixedWeight>(p_.k), bracket);
    bracket.low = Largest{}(bracket.low, last);
    const KeyList& list = list_keys(visit, bracket);
    if (threadIdx.x >= list.size) return;
    const Key key = list.keys[threadIdx.x];
    write_guess(static_cast<std::int64_t>(listed_from(list, key)) - 1, id_of(key), estimate(key));
  }

  __device__ void write_guess(std::int64_t rank, std::int32_t column, float estimate) const {
    const bool mapped = p_.token_ids != nullptr && column >= 0;
    p_.ids[r_ * p_.ids_stride + rank] = mapped ? p_.token_ids[column] : column;
    p_.estimates[r_ * p_.estimates_stride + rank] = estimate;
  }

  __device__ void write_confidence(float max_prob, float entropy) const {
    if (threadIdx.x != 0) return;
    p_.max_prob[r_] = max_prob;
    p_.entropy[r_] = entropy;
  }

  const DraftTopkParams& p_;
  const Filter filter_;
  const Row<T>& row_;
  const DraftStats* tiles_;
  const std::int64_t count_;
  const Law law_;
  const ColumnWords& words_;
  const std::int64_t r_;
};

/// Each warp reads a tile; the last block of a row finds its guesses. Grid [R, blocks_of_row(V)],
/// one block a multiprocessor.
template <class T>
__global__ void __launch_bounds__(kRowThreads, kRowBlocksPerSm)
    draft_topk_kernel(const __grid_constant__ DraftTopkParams p,
                      DraftStats* all_tiles,    // [R, num_tiles(V)]
                      unsigned* row_tickets) {  // [R]
  const std::int64_t r = blockIdx.x;
  const std::int64_t vocab_size = p.logits.vocab_size;
  const Row<T> row = row_at<T>(p.logits.data, r * p.logits.stride, vocab_size);
  const ColumnWords words{
      {philox_key(p.seed[r]), static_cast<std::uint32_t>(p.position[r]), NoiseStream::kGumbel},
      p.token_ids,
      vocab_size};
  DraftStats* tiles = all_tiles + r * num_tiles(vocab_size);
  const std::int64_t index = tile_of_warp();
  if (index < num_tiles(vocab_size)) {
    const Tile tile(row, index);
    const Law law = law_of(tile.max(), p.filters.temperature[r]);
    DraftStats stats{law.max, tile_weight(tile, law), tile_moment(tile, law), 0.0f, 0.0f};
    if (!law.is_greedy) add_scores(tile, index, law, words, stats);
    if (lane_index() == 0) tiles[index] = stats;
  }
  if (!is_last_block(row_tickets + r, gridDim.y)) return;
  Guesses<T>(p, r, row, tiles, words).write();
}

}  // namespace specbranch
