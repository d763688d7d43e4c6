#pragma once

#include <cstdint>

#include "common/philox.h"
#include "sampling/tile.cuh"
#include "verify/params.h"

namespace specbranch {

/// One request's tree and results, as seen by a whole block.
class Request {
 public:
  __device__ Request(const VerifyTreeParams& p, std::int64_t b)
      : n_nodes(p.n_nodes[b]),
        n_rows(p.n_rows[b]),
        candidates(p.candidates + b * p.candidates_stride),
        parents(p.parents + b * p.parents_stride),
        p_(p),
        b_(b),
        path_(p.path + b * p.path_stride) {}

  __device__ bool is_submitted(std::int32_t node) const { return 0 <= node && node < n_rows; }

  __device__ std::int32_t depth(std::int32_t node) const {
    std::int32_t depth = 0;
    for (; node > 0; node = parents[node]) ++depth;
    return depth;
  }

  /// The noise of a row at this depth.
  __device__ NoiseSource noise(NoiseStream stream, std::int32_t depth) const {
    const auto root_position = static_cast<std::uint32_t>(p_.position[b_]);
    return {philox_key(p_.seed[b_]), root_position + static_cast<std::uint32_t>(depth), stream};
  }

  /// The child of `node` that carries `token`, of those with may_match(child); -1 if there is none,
  /// as of kNoLaw.
  template <class MayMatch>
  __device__ std::int32_t find_child(std::int32_t node, std::int32_t token,
                                     const MayMatch& may_match) const {
    std::int32_t found = n_nodes;
    for (std::int32_t i = node + 1 + threadIdx.x; i < n_nodes; i += kRowThreads) {
      if (parents[i] == node && candidates[i] == token && may_match(i)) {
        found = i;
        break;
      }
    }
    found = block_reduce(found, Smallest{});
    return found < n_nodes ? found : -1;
  }

  __device__ void write_empty(VerifyStatus status) const {
    clear_path();
    write_end(0, -1, -1, status);
  }

  /// To be called before accept().
  __device__ void clear_path() const {
    for (std::int64_t i = threadIdx.x; i < p_.max_nodes; i += kRowThreads) path_[i] = -1;
    __syncthreads();
  }
  __device__ void accept(std::int32_t length, std::int32_t node) const {
    if (threadIdx.x == 0) path_[length] = node;
  }
  __device__ void write_end(std::int32_t path_len, std::int32_t next_token, std::int32_t winner,
                            VerifyStatus status) const {
    if (threadIdx.x != 0) return;
    p_.path_len[b_] = path_len;
    p_.next_token[b_] = next_token;
    p_.winner[b_] = winner;
    p_.status[b_] = static_cast<std::int32_t>(status);
  }

  const std::int32_t n_nodes;
  const std::int32_t n_rows;
  const std::int32_t* const candidates;  // [N]
  const std::int32_t* const parents;     // [N]

 private:
  const VerifyTreeParams& p_;
  const std::int64_t b_;
  std::int32_t* const path_;
};

/// The block of the first row and tile writes the results of an idle request.
__device__ inline void write_idle(const Request& request, std::int32_t node) {
  if (node == 0 && blockIdx.y == 0) request.write_empty(VerifyStatus::kOk);
}

template <class T>
__device__ Row<T> row_of(const VerifyTreeParams& p, std::int64_t b, std::int32_t node) {
  return row_at<T>(p.target_logits, b * p.logits_batch_stride + node * p.logits_row_stride,
                   p.vocab_size);
}

/// What the target decides at a node: its next token, and the child that carries it or -1.
struct Decision {
  std::int32_t token;
  std::int32_t child;
};

/// Of children that any token may meet.
struct AnyChild {
  __device__ bool operator()(std::int32_t) const { return true; }
};

// Instead of a decision's token:
inline constexpr std::int32_t kNoLaw = -1;
// Trial::finish() decides; the child has failed, or is -1.
inline constexpr std::int32_t kUndecided = -2;

/// From the root along the target's tokens: decide(node, depth) gives the next one.
template <class Decide>
__device__ void walk(const Request& request, const Decide& decide) {
  request.clear_path();
  std::int32_t node = 0;
  for (std::int32_t length = 0;; ++length) {
    const Decision decision = decide(node, length);
    if (decision.token == kNoLaw) {
      __syncthreads();  // the path so far has been written
      return request.write_empty(VerifyStatus::kBadLogits);
    }
    request.accept(length, node);
    if (!request.is_submitted(decision.child)) {
      return request.write_end(length + 1, decision.token, decision.child, VerifyStatus::kOk);
    }
    node = decision.child;
  }
}

}  // namespace specbranch
