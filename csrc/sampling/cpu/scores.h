#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "sampling/cpu/filter.h"
#include "sampling/cpu/noise.h"

// The search for the tokens of highest perturbed score.
namespace specbranch::SPECBRANCH_CPU_NS {

struct Scored {
  float score;
  std::int32_t id;
};

inline bool is_better(const Scored& a, const Scored& b) {
  return a.score > b.score || (a.score == b.score && a.id < b.id);
}

/// The best of what was offered; ties go to the lowest id.
class Best {
 public:
  explicit Best(Scored start = {-kInfinity, -1}) : best_(start) {}

  float threshold() const { return best_.score; }
  void offer(const Scored& token) {
    if (is_better(token, best_)) best_ = token;
  }
  std::int32_t id() const { return best_.id; }

 private:
  Scored best_;
};

/// The k best of what was offered, best first; ties go to the lowest id.
class BestK {
 public:
  explicit BestK(std::int64_t k) : k_(static_cast<std::size_t>(k)) {
    best_.reserve(std::min<std::size_t>(k_, kUsual) + 1);  // k may be far beyond a row's tokens
  }

  /// Lower scores change nothing, and -inf never does.
  float threshold() const { return best_.size() < k_ ? kLowest : best_.back().score; }
  void offer(const Scored& token) {
    if (token.score < threshold()) return;
    best_.insert(std::upper_bound(best_.begin(), best_.end(), token, is_better), token);
    if (best_.size() > k_) best_.pop_back();
  }
  const std::vector<Scored>& tokens() const { return best_; }

 private:
  static constexpr std::size_t kUsual = 256;
  static constexpr float kLowest = std::numeric_limits<float>::lowest();
  std::size_t k_;
  std::vector<Scored> best_;
};

/// A tile of scores, given its noise.
inline void score_tile(const RowBuffer& row, std::int64_t first, const Law& law, const float* noise,
                       float* scores) {
  const float* x = row.data() + first;
  for (std::int64_t i = 0; i < kTile; ++i) {
    scores[i] = perturbed_score(x[i], law.max, law.inverse_temperature, noise[i]);
  }
}

inline bool any_reaches(const float* scores, float threshold) {
  int reached = 0;
  for (std::int64_t i = 0; i < kTile; ++i) reached |= scores[i] >= threshold;
  return reached != 0;
}

template <class Collector>
void offer_tile(const float* scores, std::int64_t first, Collector& collector) {
  if (!any_reaches(scores, collector.threshold())) return;
  for (std::int64_t i = 0; i < kTile; ++i) {
    collector.offer({scores[i], static_cast<std::int32_t>(first + i)});
  }
}

/// Offers the perturbed scores of the row to `collector`, but for tiles whose scores cannot
/// reach its threshold: scores rise with the noise, so upper bounds of the noise tell, first the
/// bound of all noise (no words needed), then that of each word (no logarithms needed).
template <class WordsOfTile, class Collector>
void scan_scores(const RowBuffer& row, const Law& law, const WordsOfTile& words_of_tile,
                 Collector& collector) {
  alignas(64) std::uint32_t words[kTile];
  alignas(64) float most_noise[kTile], noise[kTile], scores[kTile];
  std::fill(most_noise, most_noise + kTile, kMaxGumbel);
  for (std::int64_t first = 0; first < row.size(); first += kTile) {
    score_tile(row, first, law, most_noise, scores);
    if (!any_reaches(scores, collector.threshold())) continue;
    words_of_tile(first, words);
    for (std::int64_t i = 0; i < kTile; ++i) noise[i] = gumbel_bound(words[i]);
    score_tile(row, first, law, noise, scores);
    if (!any_reaches(scores, collector.threshold())) continue;
    for (std::int64_t i = 0; i < kTile; ++i) noise[i] = gumbel_noise(words[i]);
    score_tile(row, first, law, noise, scores);
    offer_tile(scores, first, collector);
  }
}

/// One draw from a filtered row: its token of highest perturbed score.
inline std::int32_t draw_token(const RowBuffer& row, const Law& law, const NoiseSource& noise) {
  // The argmax has a score near the best, so that most tiles are skipped from the start.
  const auto argmax = static_cast<std::int32_t>(find_first(row, law.max));
  const float start =
      perturbed_score(law.max, law.max, law.inverse_temperature, gumbel_noise(noise.word(argmax)));
  Best best({start, argmax});
  scan_scores(row, law, ColumnNoise{noise}, best);
  return best.id();
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
