#include "tree/reliability.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <stdexcept>
#include <string>

namespace specbranch {

Reliability::Reliability(Coupling coupling, double strength, double copy_odds)
    : coupling_(coupling), strength_(strength), copy_odds_(copy_odds) {
  if (!(strength > 0 && std::isfinite(strength))) {
    throw std::invalid_argument("strength: expected a number > 0, got " + std::to_string(strength));
  }
  if (!(copy_odds >= 0 && std::isfinite(copy_odds))) {
    throw std::invalid_argument("copy_odds: expected a number >= 0, got " +
                                std::to_string(copy_odds));
  }
  tested_.fill(strength);
  held_.fill(0);
  for (Buckets& buckets : right_) buckets.fill(strength);
  for (Buckets& buckets : expected_) buckets.fill(strength);
}

void Reliability::to_priors(std::span<double> estimates) const {
  double untested = 1;
  for (double& chance : estimates) {
    chance = std::min(std::fmax(chance, 0.0), 1.0);  // sums in float32 can exceed 1
    if (coupling_ == Coupling::kGumbel) continue;
    chance = untested * (0.3 + 0.7 * chance);
    untested -= chance;
  }
}

void Reliability::find_chances(std::span<const double> priors, std::span<double> chances) const {
  if (priors.empty()) return;
  const int bucket = bucket_of(priors[0]);
  chances[0] =
      std::min((held_[bucket] + strength_ * mean_over_kinds(priors[0])) / tested_[bucket], 1.0);
  const double left = 1 - chances[0];
  double total = 0;
  for (std::size_t rank = 1; rank < priors.size(); ++rank) {
    total += chances[rank] = priors[rank] * scale(static_cast<int>(rank), priors[rank]);
  }
  if (total <= left) return;
  for (double& chance : chances.subspan(1)) chance = chance * left / total;
}

void Reliability::learn(int rank, double prior, bool right) {
  const int bucket = bucket_of(prior);
  if (rank == 0) {
    tested_[bucket] += 1;
    held_[bucket] += right;
    const double ratio =
        right ? (1 - kCopyDoubts * (1 - prior)) / std::max(prior, 0.01) : kCopyDoubts;
    copy_odds_ = std::min(copy_odds_ * ratio, kMostOdds);
  } else {
    expected_[row_of(rank)][bucket] += prior;
    right_[row_of(rank)][bucket] += right;
  }
}

int Reliability::bucket_of(double prior) {
  return static_cast<int>(std::upper_bound(kEdges.begin(), kEdges.end(), prior) - kEdges.begin());
}

int Reliability::row_of(int rank) { return std::min(rank, kRanks - 1) - 1; }

double Reliability::mean_over_kinds(double prior) const {
  const double doubts = (1 + copy_odds_ * kCopyDoubts) / (1 + copy_odds_);
  return 1 - doubts * (1 - prior);
}

double Reliability::scale(int rank, double prior) const {
  return right_[row_of(rank)][bucket_of(prior)] / expected_[row_of(rank)][bucket_of(prior)];
}

}  // namespace specbranch
