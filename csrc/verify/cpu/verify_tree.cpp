#include <algorithm>
#include <vector>

#include "common/cpu/parallel.h"
#include "sampling/cpu/scores.h"
#include "verify/cpu/residual.h"
#include "verify/params.h"

namespace specbranch::SPECBRANCH_CPU_NS {
namespace {

/// What the target decides at one node: its next token, and the child that carries it or -1.
struct Decision {
  std::int32_t token;
  std::int32_t child;
};

/// The walk of one request.
class Walk {
 public:
  Walk(const VerifyTreeParams& p, std::int64_t b, const RowBuffer& row, const RowBuffer& weights)
      : p_(p), b_(b), row_(row), weights_(weights), filter_(p.filters[b]) {}

  void run() {
    write_empty(VerifyStatus::kOk);
    if (p_.n_nodes[b_] == 0 || n_rows() == 0) return;
    std::int32_t* path = p_.path + b_ * p_.path_stride;
    std::int32_t length = 0;
    for (std::int32_t node = 0;;) {
      const float max = load(row_of(node));
      if (!has_law(max)) return write_empty(VerifyStatus::kBadLogits);
      path[length] = node;
      const Law law = filter_row(row_, max, filter_, weights_);
      const Decision decision = decide(node, law, length);
      ++length;
      if (decision.child < 0 || decision.child >= n_rows()) {
        p_.path_len[b_] = length;
        p_.next_token[b_] = decision.token;
        p_.winner[b_] = decision.child;
        return;
      }
      node = decision.child;
    }
  }

 private:
  void write_empty(VerifyStatus status) {
    std::fill_n(p_.path + b_ * p_.path_stride, p_.max_nodes, -1);
    p_.path_len[b_] = 0;
    p_.next_token[b_] = p_.winner[b_] = -1;
    p_.status[b_] = static_cast<std::int32_t>(status);
  }

  /// Returns the maximum of the allowed tokens.
  float load(std::int64_t row) {
    const float largest =
        load_row(p_.target_logits, p_.logits_dtype, row * p_.logits_stride, p_.vocab_size, row_);
    return keep_allowed(row_, p_.allowed.row(row), p_.vocab_size, largest);
  }

  Decision decide(std::int32_t node, const Law& law, std::int32_t depth) {
    if (p_.draft_probs != nullptr && filter_.temperature > 0.0f) return reject(node, law, depth);
    const std::int32_t token = draw_token(row_, law, noise(NoiseStream::kGumbel, depth));
    return {token, find_child(node, token, [](std::int32_t) { return true; })};
  }

  /// The sampled children in the order of their draws, then a token of the law that is left.
  Decision reject(std::int32_t node, const Law& law, std::int32_t depth) {
    const std::vector<std::int32_t> children = sampled_children(node);
    const NoiseSource residual_noise = noise(NoiseStream::kResidual, depth);
    std::int32_t token = -1;
    if (children.empty()) {
      token = draw_token(row_, law, residual_noise);
    } else {
      const double total = fill_weights(row_, law, weights_);
      Residual residual(weights_, total, draft_law(node), p_.vocab_size, row_);
      const NoiseSource accept = noise(NoiseStream::kAccept, depth);
      for (const std::int32_t child : children) {
        const std::int32_t candidate = candidates()[child];
        if (residual.passes(candidate, accept.uniform(static_cast<std::uint32_t>(candidate)))) {
          return {candidate, child};
        }
        if (!residual.remove(candidate)) break;
      }
      token = residual.draw(residual_noise);
    }
    const std::uint8_t* draw = p_.draw + b_ * p_.draw_stride;
    return {token, find_child(node, token, [&](std::int32_t i) { return draw[i] == 0; })};
  }

  std::vector<std::int32_t> sampled_children(std::int32_t node) const {
    const std::uint8_t* draw = p_.draw + b_ * p_.draw_stride;
    std::vector<std::int32_t> children;
    for (std::int32_t i = node + 1; i < p_.n_nodes[b_]; ++i) {
      if (parents()[i] == node && draw[i] > 0) children.push_back(i);
    }
    std::stable_sort(children.begin(), children.end(),
                     [&](std::int32_t a, std::int32_t b) { return draw[a] < draw[b]; });
    return children;
  }

  template <class MayMatch>
  std::int32_t find_child(std::int32_t node, std::int32_t token, const MayMatch& may_match) const {
    for (std::int32_t i = node + 1; i < p_.n_nodes[b_]; ++i) {
      if (parents()[i] == node && candidates()[i] == token && may_match(i)) return i;
    }
    return -1;
  }

  const std::int32_t* parents() const { return p_.parents + b_ * p_.parents_stride; }
  const std::int32_t* candidates() const { return p_.candidates + b_ * p_.candidates_stride; }
  std::int32_t n_rows() const { return p_.row_indptr[b_ + 1] - p_.row_indptr[b_]; }
  std::int64_t row_of(std::int32_t node) const { return std::int64_t{p_.row_indptr[b_]} + node; }
  const float* draft_law(std::int32_t node) const {
    return p_.draft_probs + row_of(node) * p_.probs_stride;
  }
  NoiseSource noise(NoiseStream stream, std::int32_t depth) const {
    const auto root_position = static_cast<std::uint32_t>(p_.position[b_]);
    return {philox_key(p_.seed[b_]), root_position + static_cast<std::uint32_t>(depth), stream};
  }

  const VerifyTreeParams& p_;
  const std::int64_t b_;
  const RowBuffer& row_;
  const RowBuffer& weights_;
  const Filter filter_;
};

}  // namespace

void verify_tree(const VerifyTreeParams& p) {
  parallel_for(0, p.batch_size, 1, [&](std::int64_t begin, std::int64_t end) {
    const RowBuffer row(p.vocab_size), weights(p.vocab_size);
    for (std::int64_t b = begin; b < end; ++b) Walk(p, b, row, weights).run();
  });
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
