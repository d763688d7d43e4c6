#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "sampling/cpu/scores.h"

namespace specbranch::SPECBRANCH_CPU_NS {

/// What rejection sampling leaves of the target's law P while children drawn from Q without
/// replacement are tested, in the order of their draws (Leviathan et al. 2023 and Chen et al. 2023,
/// recursively over siblings): a child passes with probability min(1, P / Q); one that fails turns
/// P into norm(max(P - Q, 0)) and takes its token out of Q.
///
/// Both laws are kept as weights and a scale, so that normalising costs no pass over the row.
class Residual {
 public:
  /// P = weights / total. The weights change; `scratch` holds Q once a child has failed.
  Residual(const RowBuffer& weights, double total, const float* draft_probs,
           std::int64_t vocab_size, const RowBuffer& scratch)
      : p_(weights),
        p_scale_(static_cast<float>(1.0 / total)),
        q_(draft_probs),
        vocab_size_(vocab_size),
        scratch_(scratch) {}

  /// u in [0, 1). Strict, so that a token without mass in P never passes.
  bool passes(std::int32_t token, float u) const {
    return u * (q_[token] * q_scale_) < p_.data()[token] * p_scale_;
  }

  /// After `token` has failed. False if Q has no mass left: then no other child can be tested.
  bool remove(std::int32_t token) {
    if (q_ != scratch_.data()) copy_draft_law();
    subtract_draft_law();
    scratch_.data()[token] = 0.0f;
    const auto [left] =
        sum_row(scratch_, [&](std::int64_t i) { return std::array{load(scratch_.data() + i)}; });
    q_scale_ = static_cast<float>(1.0 / left);
    return left > 0.0;
  }

  /// A token of what is left of P, whose weights are lost.
  std::int32_t draw(const NoiseSource& noise) {
    for (std::int64_t i = 0; i < p_.size(); i += kLanes) {
      load(p_.data() + i).log().store(p_.data() + i);
    }
    Best best;
    scan_scores(p_, Law{.max = 0.0f, .inverse_temperature = 1.0f}, ColumnNoise{noise}, best);
    return best.id();
  }

 private:
  void copy_draft_law() {
    std::copy_n(q_, vocab_size_, scratch_.data());
    std::fill(scratch_.data() + vocab_size_, scratch_.data() + scratch_.size(), 0.0f);
    q_ = scratch_.data();
  }

  /// P <- norm(max(P - Q, 0)); where that has no mass, P stays what it was.
  void subtract_draft_law() {
    const auto difference = [&](std::int64_t i) {
      const Vec p = load(p_.data() + i) * Vec(p_scale_);
      const Vec q = load(scratch_.data() + i) * Vec(q_scale_);
      return at::vec::clamp_min(p - q, Vec(0.0f));
    };
    const auto [mass] = sum_row(p_, [&](std::int64_t i) { return std::array{difference(i)}; });
    if (!(mass > 0.0)) return;
    for (std::int64_t i = 0; i < p_.size(); i += kLanes) difference(i).store(p_.data() + i);
    p_scale_ = static_cast<float>(1.0 / mass);
  }

  const RowBuffer& p_;
  float p_scale_;
  const float* q_;
  float q_scale_ = 1.0f;
  std::int64_t vocab_size_;
  const RowBuffer& scratch_;
};

}  // namespace specbranch::SPECBRANCH_CPU_NS
