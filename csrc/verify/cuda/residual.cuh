#pragma once

#include <cstdint>

#include "sampling/cuda/row_law.cuh"

namespace specbranch {

/// Rounded, so that equal products cancel: a fused multiply-subtract would leave crumbs of P where
/// P = Q.
__device__ inline float rounded_product(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}

/// What rejection sampling leaves of the target's law P while children drawn from Q without
/// replacement are tested, in the order of their draws (Leviathan et al. 2023 and Chen et al. 2023,
/// recursively over siblings): a child passes with probability min(1, P / Q); one that fails turns
/// P into norm(max(P - Q, 0)) and takes its token out of Q.
///
/// Nothing of the size of the vocabulary is stored: the failures so far are applied again to
/// whatever is read of P and Q. All threads of the block call all functions alike.
template <class T>
class Residual {
 public:
  static constexpr int kMaxFailures = 255;  // draws are numbered in eight bits

  /// A failed child: P <- max(P * p_scale - Q * q_scale, 0), if that leaves any mass; then
  /// Q[token] <- 0.
  struct Failure {
    float p_scale, q_scale;
    std::int32_t token;
    bool leaves_mass;
  };

  /// `failures` [kMaxFailures] is shared memory.
  __device__ Residual(const Row<T>& row, const TileStats* tiles, const RowLaw& law,
                      const Row<float>& draft_probs, Failure* failures)
      : row_(row),
        tiles_(tiles),
        law_(law),
        draft_(draft_probs),
        failures_(failures),
        p_scale_(law.scale) {}

  /// u in [0, 1). Strict, so that a token without mass in P never passes.
  __device__ bool passes(std::int32_t token, float u) const {
    const Masses at = masses(row_[token], draft_[token], token);
    return u * rounded_product(at.q, q_scale_) < rounded_product(at.p, p_scale_);
  }

  /// After `token` has failed.
  __device__ void fail(std::int32_t token) {
    __syncthreads();  // others may still read what the node before left here
    if (threadIdx.x == 0) failures_[num_failures_] = {p_scale_, q_scale_, token, true};
    ++num_failures_;
    __syncthreads();
  }

  /// To be called before another child is tested. False if Q has no mass left: then none can be.
  __device__ bool normalise() {
    float p_mass = 0.0f, q_mass = 0.0f;
    const auto all = [](std::int64_t) { return true; };
    for_each_mass(all, [&](const Masses(&four)[4], std::int64_t) {
#pragma unroll
      for (const Masses& at : four) {
        p_mass += at.p;
        q_mass += at.q;
      }
    });
    p_mass = block_reduce(p_mass, Add{});
    q_mass = block_reduce(q_mass, Add{});
    if (p_mass > 0.0f) {
      p_scale_ = 1.0f / p_mass;
    } else {
      keep_last_mass();
    }
    q_scale_ = 1.0f / q_mass;
    return q_mass > 0.0f;
  }

  /// A token of what is left of P.
  __device__ std::int32_t draw(const ColumnWords& words) {
    Key winner = highest_key_of(words);
    if (winner == 0) {
      keep_last_mass();
      winner = highest_key_of(words);
    }
    return id_of(winner);
  }

 private:
  struct Masses {
    float p, q;
  };

  /// What the failures leave of a token, up to p_scale_ and q_scale_.
  __device__ Masses masses(float logit, float draft_prob, std::int64_t id) const {
    Masses at{law_.weight(logit, id), draft_prob};
    for (int i = 0; i < num_failures_; ++i) {
      const Failure& failure = failures_[i];
      if (failure.leaves_mass) {
        const float p = rounded_product(at.p, failure.p_scale);
        at.p = fmaxf(p - rounded_product(at.q, failure.q_scale), 0.0f);
      }
      if (failure.token == id) at.q = 0.0f;
    }
    return at;
  }

  /// The last failure leaves no mass in P, as a reduction has told all threads: P stays what it
  /// was.
  __device__ void keep_last_mass() {
    if (threadIdx.x == 0) failures_[num_failures_ - 1].leaves_mass = false;
    __syncthreads();
  }

  /// Calls visit(masses of four tokens, first of them) for the tiles with wanted(tile).
  template <class Wanted, class Visit>
  __device__ void for_each_mass(const Wanted& wanted, const Visit& visit) const {
    for_each_tile(num_tiles(row_.vocab_size), wanted, [&](std::int64_t index) {
#pragma unroll 1  // two whole tiles would take too many registers
      for (int group = 0; group < kGroups; ++group) {
        const std::int64_t first = first_token(index, group);
        float logits[4], drafts[4];
        row_.load(first, logits);
        draft_.load(first, drafts);
        Masses four[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float q = fmaxf(drafts[i], 0.0f);  // -inf behind the end
          four[i] = masses(logits[i], q, first + i);
        }
        visit(four, first);
      }
    });
  }

  /// The token of highest log P + Gumbel noise; 0 if P has no mass.
  ///
  /// What failures take off P only lowers the scores of the pass over the row, so these bound it
  /// tile by tile. If a mass r is left, about 1 / r tokens stood above the winner: it is likely to
  /// be in one of the e^3 or so tiles that come first, and the others are read only if it is not.
  __device__ Key highest_key_of(const ColumnWords& words) const {
    constexpr float kLikely = 3.0f;
    const float scale = log_scale();
    float highest = kNoLogit;
    for (std::int64_t t = threadIdx.x; t < num_tiles(row_.vocab_size); t += kRowThreads) {
      highest = fmaxf(highest, score_bound(tiles_[t], scale));
    }
    highest = block_reduce(highest, Largest{});
    const Key winner = best_key(words, scale, highest - kLikely);
    return winner != 0 ? winner : best_key(words, scale, kNoLogit);
  }

  /// Of the tile's tokens.
  __device__ float score_bound(const TileStats& tile, float scale) const {
    return best_of_tile(law_.law, tile) + scale + kScoreSlack;
  }

  /// Log of all that masses() multiplies a weight with.
  __device__ float log_scale() const {
    float sum = 0.0f;
    for (int i = 0; i < num_failures_; ++i) {
      if (failures_[i].leaves_mass) sum += logf(failures_[i].p_scale);
    }
    return sum;
  }

  /// The token of highest score, of those that reach `least`; 0 if none does.
  __device__ Key best_key(const ColumnWords& words, float scale, float least) const {
    float best = least;
    Key winner = 0;
    const auto may_hold = [&](std::int64_t t) {
      return law_.cutoff.may_keep(law_.law, tiles_[t].max) &&
             score_bound(tiles_[t], scale) >= least;
    };
    for_each_mass(may_hold, [&](const Masses(&four)[4], std::int64_t first) {
      const float top = fmaxf(fmaxf(four[0].p, four[1].p), fmaxf(four[2].p, four[3].p));
      if (!(top > 0.0f) || logf(top) + kMaxGumbel < best) return;
      std::uint32_t word[4];
      words(first, word);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (!(four[i].p > 0.0f)) continue;
        const float score = logf(four[i].p) + gumbel_noise(word[i]);
        if (score < best) continue;
        best = score;
        winner = Largest{}(winner, key_of(score, static_cast<std::int32_t>(first + i)));
      }
    });
    return block_reduce(winner, Largest{});
  }

  const Row<T>& row_;
  const TileStats* tiles_;
  const RowLaw& law_;
  const Row<float>& draft_;
  Failure* failures_;
  int num_failures_ = 0;
  float p_scale_;
  float q_scale_ = 1.0f;
};

}  // namespace specbranch
