#pragma once

#include <array>
#include <span>

#include "sampling/params.h"

namespace specbranch {

/// The chance that a guess is right, by its rank and its prior chance: the draft's own estimates,
/// corrected by what was verified.
///
/// Of first guesses each bucket knows how many were tested and how many held: the chance is the
/// posterior mean of that rate, under a Beta prior that is worth `strength` guesses and has the
/// chance that the draft's kind makes of the guess's own as its mean. A draft of one kind means
/// what it says. One of the other, a copy of the target at less precision, shares the target's
/// doubts: it is wrong kCopyDoubts times as often as it says. The mean is over both kinds, and
/// every guess tested tells how likely each is; `copy_odds` are those of a copy before that.
///
/// Further guesses share what the first one leaves. Their prior chances reach from tenths to almost
/// nothing and are scaled by (right + s) / (expected + s): right counts those that held, expected
/// sums the chances that the prior gave them. This is the posterior mean of a Poisson rate under a
/// Gamma prior of mean 1.
///
/// All are defined from the start, and keep the order of guesses within a bucket.
class Reliability {
 public:
  /// Throws std::invalid_argument unless strength is above 0 and copy_odds at least 0.
  explicit Reliability(Coupling coupling, double strength = 3.0, double copy_odds = 0.25);

  /// Turn the draft's estimates [k] of a node's guesses into prior chances; NaN counts as 0.
  ///
  /// Of ranked guesses they are the estimates as they are. Drawn ones are tested one after another,
  /// and a draw of small probability is far more often right than that says: of a token whose q is
  /// near zero the target's p is mostly larger.
  void to_priors(std::span<double> estimates) const;

  /// Chances [k] of a node's guesses, best (or first drawn) first, from their priors [k] in [0, 1].
  /// At most one guess is right, so they sum to 1 at most, and each is at most 1.
  void find_chances(std::span<const double> priors, std::span<double> chances) const;

  /// Take in that a guess of this rank and prior was tested, and whether it was right.
  void learn(int rank, double prior, bool right);

 private:
  static constexpr std::array kEdges = {0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97};
  static constexpr double kCopyDoubts = 0.05;
  static constexpr double kMostOdds = 1e6;
  static constexpr int kRanks = 4;  // guesses of rank kRanks - 1 and beyond share their buckets
  using Buckets = std::array<double, kEdges.size() + 1>;  // of prior chances, between the edges

  static int bucket_of(double prior);
  static int row_of(int rank);
  double mean_over_kinds(double prior) const;
  double scale(int rank, double prior) const;

  Coupling coupling_;
  double strength_;
  double copy_odds_;
  Buckets tested_, held_;                             // first guesses
  std::array<Buckets, kRanks - 1> right_, expected_;  // further ones
};

}  // namespace specbranch
