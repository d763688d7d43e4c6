#pragma once

#include <cstdint>

#include "common/philox.h"
#include "sampling/cuda/tile.cuh"
#include "verify/params.h"

namespace specbranch {

/// One request's tree and results, as seen by a whole block.
class Request {
 public:
  /// `b` may lie in shared memory.
  __device__ Request(const VerifyTreeParams& p, const std::int32_t& b) : p_(p), b_(b) {}

  // Read again where they are wanted: the rejection kernel has no registers to keep them in.
  __device__ std::int32_t n_nodes() const { return p_.n_nodes[b_]; }
  __device__ std::int32_t candidate(std::int32_t node) const {
    return p_.candidates[b_ * p_.candidates_stride + node];
  }
  __device__ std::int32_t parent(std::int32_t node) const {
    return p_.parents[b_ * p_.parents_stride + node];
  }
  __device__ std::int32_t draw(std::int32_t node) const {
    return p_.draw[b_ * p_.draw_stride + node];
  }
  __device__ std::int32_t first_row() const { return p_.row_indptr[b_]; }
  __device__ std::int32_t n_rows() const { return p_.row_indptr[b_ + 1] - first_row(); }

  __device__ bool is_idle() const { return n_nodes() == 0 || n_rows() == 0; }
  __device__ bool is_submitted(std::int32_t node) const { return 0 <= node && node < n_rows(); }

  __device__ std::int32_t depth(std::int32_t node) const {
    std::int32_t depth = 0;
    for (; node > 0; node = parent(node)) ++depth;
    return depth;
  }

  /// The noise of a row at this depth.
  __device__ NoiseSource noise(NoiseStream stream, std::int32_t depth) const {
    const auto root_position = static_cast<std::uint32_t>(p_.position[b_]);
    return {philox_key(p_.seed[b_]), root_position + static_cast<std::uint32_t>(depth), stream};
  }

  /// The child of `node` that carries `token`, of those with may_match(child). -1 if there is none,
  /// and for the token kNoLaw, which no child carries.
  template <class MayMatch>
  __device__ std::int32_t find_child(std::int32_t node, std::int32_t token,
                                     const MayMatch& may_match) const {
    const std::int32_t none = n_nodes();
    std::int32_t found = none;
    for (std::int32_t i = node + 1 + threadIdx.x; i < none; i += kRowThreads) {
      if (parent(i) == node && candidate(i) == token && may_match(i)) {
        found = i;
        break;
      }
    }
    found = block_reduce(found, Smallest{});
    return found < none ? found : -1;
  }

  __device__ void write_empty(VerifyStatus status) const {
    clear_path();
    write_end(0, -1, -1, status);
  }

  /// To be called before accept().
  __device__ void clear_path() const {
    for (std::int64_t i = threadIdx.x; i < p_.max_nodes; i += kRowThreads) path()[i] = -1;
    __syncthreads();
  }
  __device__ void accept(std::int32_t length, std::int32_t node) const {
    if (threadIdx.x == 0) path()[length] = node;
  }
  __device__ void write_end(std::int32_t path_len, std::int32_t next_token, std::int32_t winner,
                            VerifyStatus status) const {
    if (threadIdx.x != 0) return;
    p_.path_len[b_] = path_len;
    p_.next_token[b_] = next_token;
    p_.winner[b_] = winner;
    p_.status[b_] = static_cast<std::int32_t>(status);
  }

 private:
  __device__ std::int32_t* path() const { return p_.path + b_ * p_.path_stride; }

  const VerifyTreeParams& p_;
  const std::int32_t& b_;
};

/// The results of an idle request, which has no row whose block could write them: block x writes
/// those of request x.
__device__ inline void write_if_idle(const VerifyTreeParams& p) {
  const auto b = static_cast<std::int32_t>(blockIdx.x);
  if (b >= p.batch_size || blockIdx.y > 0) return;
  const Request request(p, b);
  if (request.is_idle()) request.write_empty(VerifyStatus::kOk);
}

/// The request that a row belongs to, or batch_size for padding. The threads of the block divide
/// what is left of the requests among them until one is left, which takes one step up to 512.
__device__ inline std::int32_t request_of_row(const VerifyTreeParams& p, std::int64_t row) {
  std::int64_t first = 0;
  for (std::int64_t count = p.batch_size; count > 0;) {
    const std::int64_t share = (count + kRowThreads - 1) / kRowThreads;
    const std::int64_t last_of_share = (threadIdx.x + 1) * share - 1;
    const bool ends_before =
        last_of_share < count && p.row_indptr[first + last_of_share + 1] <= row;
    const std::int64_t passed = __syncthreads_count(ends_before) * share;
    first += passed;
    count = min(count - passed, share - 1);
  }
  return static_cast<std::int32_t>(first);
}

template <class T>
__device__ Row<T> row_of(const VerifyTreeParams& p, std::int64_t row) {
  return row_at<T>(p.target_logits, row * p.logits_stride, p.vocab_size, p.allowed.row(row));
}

/// What the target decides at a node: its next token, and the child that carries it or -1.
struct Decision {
  std::int32_t token;
  std::int32_t child;
};

/// For find_child(): a drawn child may match, too.
struct AnyChild {
  __device__ bool operator()(std::int32_t) const { return true; }
};

// What a decision says instead of a token:
/// The row holds NaN or has no finite maximum.
inline constexpr std::int32_t kNoLaw = -1;
/// The walk has to decide, by Trial::finish(). The child is the one that has failed, or -1.
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
