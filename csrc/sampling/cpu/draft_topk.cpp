#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "common/cpu/parallel.h"
#include "sampling/cpu/scores.h"

namespace specbranch::SPECBRANCH_CPU_NS {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

/// Of a law without filters.
struct Confidence {
  float max_prob, entropy;
};

Confidence find_confidence(const RowBuffer& row, const Law& law) {
  const auto [total, moment] = sum_row(row, [&](std::int64_t i) {
    const Vec z = at::vec::clamp_min(log_weights(row, law, i), Vec(-100.0f));  // its weight is 0
    const Vec weight = exp_nonpositive(z);
    return std::array{weight, z * weight};
  });
  return {static_cast<float>(1.0 / total), static_cast<float>(std::log(total) - moment / total)};
}

/// The guesses of one row, best first, -1 and 0 where there are fewer than k.
class Guesses {
 public:
  Guesses(const DraftTopkParams& p, std::int64_t r)
      : token_ids_(p.token_ids),
        ids_(p.ids + r * p.ids_stride),
        estimates_(p.estimates + r * p.estimates_stride) {
    std::fill(ids_, ids_ + p.k, -1);
    std::fill(estimates_, estimates_ + p.k, 0.0f);
  }

  /// estimate(token): the chance that it is right.
  template <class Estimate>
  void write(const std::vector<Scored>& best, const Estimate& estimate) {
    for (std::size_t rank = 0; rank < best.size(); ++rank) {
      const std::int32_t column = best[rank].id;
      ids_[rank] = token_ids_ == nullptr ? column : token_ids_[column];
      estimates_[rank] = estimate(best[rank]);
    }
  }

 private:
  const std::int32_t* token_ids_;
  std::int32_t* ids_;
  float* estimates_;
};

/// Temperature 0: the best logits; estimates are their softmax.
void rank_logits(const RowBuffer& row, const Law& law, float max_prob, std::int64_t k,
                 Guesses& guesses) {
  BestK best(k);
  for (std::int64_t first = 0; first < row.size(); first += kTile) {
    offer_tile(row.data() + first, first, best);
  }
  guesses.write(best.tokens(),
                [&](const Scored& token) { return std::exp(token.score - law.max) * max_prob; });
}

/// Gumbel coupling: the best perturbed scores; estimates are their softmax.
template <class WordsOfTile>
void rank_scores(const RowBuffer& row, const Law& law, const WordsOfTile& words_of_tile,
                 std::int64_t k, Guesses& guesses) {
  alignas(64) std::uint32_t words[kTile];
  alignas(64) float noise[kTile], scores[kTile];
  BestK best(k);
  double total = 0.0;
  for (std::int64_t first = 0; first < row.size(); first += kTile) {
    words_of_tile(first, words);
    for (std::int64_t i = 0; i < kTile; ++i) noise[i] = gumbel_noise(words[i]);
    score_tile(row, first, law, noise, scores);
    Vec weights(0.0f);
    for (std::int64_t i = 0; i < kTile; i += kLanes) {
      weights = weights + exp_nonpositive(Vec::loadu(scores + i) - Vec(kMaxGumbel));
    }
    total += sum(weights);
    offer_tile(scores, first, best);
  }
  guesses.write(best.tokens(), [&](const Scored& token) {
    return static_cast<float>(std::exp(token.score - kMaxGumbel) / total);
  });
}

/// Rejection coupling: draws without replacement from the law; estimates are its own.
template <class WordsOfTile>
void rank_draws(const RowBuffer& row, const Law& law, const WordsOfTile& words_of_tile,
                const RowBuffer& weights, std::int64_t k, Guesses& guesses) {
  const auto scale = static_cast<float>(1.0 / fill_weights(row, law, weights));
  BestK best(k);
  scan_scores(row, law, words_of_tile, best);
  std::vector<Scored> draws = best.tokens();
  std::erase_if(draws, [&](const Scored& token) { return weights.data()[token.id] == 0.0f; });
  guesses.write(draws, [&](const Scored& token) { return weights.data()[token.id] * scale; });
}

template <class WordsOfTile>
void rank(const DraftTopkParams& p, const RowBuffer& row, const Law& law,
          const WordsOfTile& words_of_tile, const RowBuffer& weights, Guesses& guesses) {
  if (p.coupling == Coupling::kGumbel) {
    rank_scores(row, law, words_of_tile, p.k, guesses);
  } else {
    rank_draws(row, law, words_of_tile, weights, p.k, guesses);
  }
}

void draft_row(const DraftTopkParams& p, std::int64_t r, const RowBuffer& row,
               const RowBuffer& weights) {
  Guesses guesses(p, r);
  p.max_prob[r] = p.entropy[r] = kNaN;
  const float max = load_row(p.logits, r, row);
  if (!has_law(max)) return;

  const Filter filter = p.filters[r];
  const Law law = law_of(max, filter.temperature);
  const Confidence confidence = find_confidence(row, law);
  p.max_prob[r] = confidence.max_prob;
  p.entropy[r] = confidence.entropy;
  if (filter.temperature == 0.0f) {
    rank_logits(row, law, confidence.max_prob, p.k, guesses);
    return;
  }
  const bool is_soft = p.coupling == Coupling::kGumbel;
  penalise(row, find_cutoff(row, law, filter, weights),
           is_soft ? kSoftPenalty * filter.temperature : kInfinity);
  const NoiseSource noise{philox_key(p.seed[r]), static_cast<std::uint32_t>(p.position[r]),
                          NoiseStream::kGumbel};
  if (p.token_ids == nullptr) {
    rank(p, row, law, ColumnNoise{noise}, weights, guesses);
  } else {
    rank(p, row, law, MappedNoise{noise, p.token_ids, p.logits.vocab_size}, weights, guesses);
  }
}

}  // namespace

void draft_topk(const DraftTopkParams& p) {
  parallel_for(0, p.logits.num_rows, 1, [&](std::int64_t begin, std::int64_t end) {
    const RowBuffer row(p.logits.vocab_size), weights(p.logits.vocab_size);
    for (std::int64_t r = begin; r < end; ++r) draft_row(p, r, row, weights);
  });
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
