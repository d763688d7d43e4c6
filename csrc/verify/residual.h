#pragma once

#include <cmath>
#include <cstdint>

#include "sampling/scores.h"

namespace specbranch::SPECBRANCH_CPU_NS {

/// What rejection sampling leaves of the target's law P while children drawn from Q without
/// replacement are tested (Leviathan et al. 2023, Chen et al. 2023, recursively over siblings).
/// A child is accepted with probability min(1, P / Q); a rejected one turns P into norm(max(P - Q, 0))
/// and takes its token out of Q.
class Residual {
 public:
  /// P = weights / total, normalised in place. Q [vocab_size] is copied into `scratch` once needed.
  Residual(const RowBuffer& weights, double total, const RowBuffer& scratch,
           const float* draft_probs, std::int64_t vocab_size)
      : p_(weights), q_(scratch), draft_probs_(draft_probs), vocab_size_(vocab_size) {
    scale(p_, 1.0 / total);
  }

  /// Strict, so that a token without mass in P never passes. u in [0, 1).
  bool accepts(std::int32_t token, float u) const {
    const float q = in_place_ ? q_.data()[token] : draft_probs_[token];
    return u * q < p_.data()[token];
  }

  /// After a rejection. False if Q has no mass left: no further child can be tested.
  bool remove(std::int32_t token) {
    if (!in_place_) copy_draft_law();
    subtract();
    q_.data()[token] = 0.0f;
    const auto [left] = sum_row(q_, [&](std::int64_t i) { return std::array{load(q_.data() + i)}; });
    if (left <= 0.0) return false;
    scale(q_, 1.0 / left);
    return true;
  }

  /// A token of what is left of P. Ends the use of this object: P becomes log P.
  std::int32_t draw(const NoiseSource& noise) {
    for (std::int64_t i = 0; i < p_.size(); i += kLanes) {
      load(p_.data() + i).log().store(p_.data() + i);
    }
    Best best;
    scan_scores(p_, Law{0.0f, 0, 1.0f, {}}, ColumnNoise{noise}, best);
    return best.id();
  }

 private:
  static void scale(const RowBuffer& row, double factor) {
    const auto rounded = static_cast<float>(factor);
    for (std::int64_t i = 0; i < row.size(); ++i) row.data()[i] *= rounded;
  }

  void copy_draft_law() {
    std::copy_n(draft_probs_, vocab_size_, q_.data());
    std::fill(q_.data() + vocab_size_, q_.data() + q_.size(), 0.0f);
    in_place_ = true;
  }

  /// P <- norm(max(P - Q, 0)); where that has no mass, P stays what it was.
  void subtract() {
    const auto difference = [&](std::int64_t i) {
      return at::vec::clamp_min(load(p_.data() + i) - load(q_.data() + i), Vec(0.0f));
    };
    const auto [mass] = sum_row(p_, [&](std::int64_t i) { return std::array{difference(i)}; });
    if (!(mass > 0.0)) return;
    const Vec factor(static_cast<float>(1.0 / mass));
    for (std::int64_t i = 0; i < p_.size(); i += kLanes) {
      (difference(i) * factor).store(p_.data() + i);
    }
  }

  const RowBuffer& p_;
  const RowBuffer& q_;
  const float* draft_probs_;
  std::int64_t vocab_size_;
  bool in_place_ = false;
};

}  // namespace specbranch::SPECBRANCH_CPU_NS
