#pragma once

#include <cstdint>

#include "common/cuda/last_block.cuh"
#include "sampling/cuda/sample.cuh"
#include "verify/cuda/request.cuh"
#include "verify/cuda/residual.cuh"

namespace specbranch {

/// The child of `node` that was drawn next after `previous_draw` (0: the first), -1 if none was.
__device__ inline std::int32_t next_drawn(const Request& request, std::int32_t node,
                                          std::int32_t previous_draw) {
  constexpr std::int64_t kNone = INT64_MAX;
  const std::int32_t n_nodes = request.n_nodes();
  std::int64_t next = kNone;
  for (std::int32_t i = node + 1 + threadIdx.x; i < n_nodes; i += kRowThreads) {
    if (request.parent(i) != node || request.draw(i) <= previous_draw) continue;
    next = Smallest{}(next, std::int64_t{request.draw(i)} << 32 | i);
  }
  next = block_reduce(next, Smallest{});
  return next == kNone ? -1 : static_cast<std::int32_t>(next);
}

/// One node of a request, where the target's law meets the draft's.
template <class T>
class Trial {
 public:
  __device__ Trial(const VerifyTreeParams& p, const Request& request, std::int32_t node,
                   std::int32_t depth, const TileStats* tiles, const RowLaw& law)
      : request_(request),
        node_(node),
        depth_(depth),
        row_(row_of<T>(p, std::int64_t{request.first_row()} + node)),
        draft_(p.draft_probs + (std::int64_t{request.first_row()} + node) * p.probs_stride,
               p.vocab_size),
        tiles_(tiles),
        law_(law) {}

  /// As far as can be told without reading the row again: all but a failure, and the end of a path.
  __device__ Decision begin() const {
    if (!law_.law.exists()) return {kNoLaw, -1};
    if (law_.law.is_greedy) {
      const std::int32_t token = id_of(law_.cutoff.lowest);
      return {token, request_.find_child(node_, token, AnyChild{})};
    }
    const std::int32_t child = next_drawn(request_, node_, 0);
    if (child >= 0 && passes(Residual<T>(row_, tiles_, law_, draft_, nullptr), child)) {
      return {request_.candidate(child), child};
    }
    return {kUndecided, child};
  }

  /// What was left undecided: after the first child has failed, the others in the order of their
  /// draws, then a token of the law that is left, which may be a matched child.
  __device__ Decision finish(std::int32_t failed) const {
    SPECBRANCH_SHARED(failures, typename Residual<T>::Failure[Residual<T>::kMaxFailures]);
    if (failed < 0) {
      return match(draw_token(row_, tiles_, law_.law, law_.cutoff, residual_words()));
    }
    Residual<T> residual(row_, tiles_, law_, draft_, failures);
    for (;;) {
      residual.fail(request_.candidate(failed));
      const std::int32_t child = next_drawn(request_, node_, request_.draw(failed));
      if (child < 0 || !residual.normalise()) break;
      if (passes(residual, child)) return {request_.candidate(child), child};
      failed = child;
    }
    return match(residual.draw(residual_words()));
  }

 private:
  __device__ bool passes(const Residual<T>& residual, std::int32_t child) const {
    const NoiseSource accept = request_.noise(NoiseStream::kAccept, depth_);
    const std::int32_t token = request_.candidate(child);
    return residual.passes(token, accept.uniform(static_cast<std::uint32_t>(token)));
  }

  __device__ ColumnWords residual_words() const {
    return {.source = request_.noise(NoiseStream::kResidual, depth_)};
  }

  __device__ Decision match(std::int32_t token) const {
    const auto is_matched = [&](std::int32_t i) { return request_.draw(i) == 0; };
    return {token, request_.find_child(node_, token, is_matched)};
  }

  const Request& request_;
  const std::int32_t node_;
  const std::int32_t depth_;
  const Row<T> row_;
  const Row<float> draft_;
  const TileStats* tiles_;
  const RowLaw& law_;
};

/// The rejection coupling. The last block of a row finds its law and tests the child that was drawn
/// first, whatever the walk; the last of a request walks, and reads again the rows of the nodes
/// that it finds undecided. Grid [max(T, B), blocks_of_row(V)], one block a multiprocessor.
template <class T>
__global__ void __launch_bounds__(kRowThreads, kRowBlocksPerSm)
    verify_rejection_kernel(const __grid_constant__ VerifyTreeParams p,
                            TileStats* all_tiles,         // [T, num_tiles(V)]
                            RowLaw* all_laws,             // [T]
                            Decision* all_decisions,      // [T]
                            unsigned* row_tickets,        // [T]
                            unsigned* request_tickets) {  // [B]
  write_if_idle(p);
  const std::int64_t row_index = blockIdx.x;
  const std::int32_t found = request_of_row(p, row_index);
  if (found == p.batch_size) return;
  SPECBRANCH_SHARED(b, std::int32_t);  // what is made of it would fill registers otherwise
  if (threadIdx.x == 0) b = found;
  __syncthreads();
  const Request request(p, b);
  if (request.n_nodes() == 0) return;  // idle, with rows for nothing

  const auto tiles_of = [&](std::int64_t row) { return all_tiles + row * num_tiles(p.vocab_size); };
  const auto node = static_cast<std::int32_t>(row_index - request.first_row());
  const Row<T> row = row_of<T>(p, row_index);
  const LoadingTile<T> tile(row, tile_of_warp());  // while the tree is read
  const Filter filter = p.filters[b];
  const std::int32_t depth = request.depth(node);
  // The scores by which the residual law is drawn from, before anything is taken off them.
  const ColumnWords words{.source = request.noise(NoiseStream::kResidual, depth)};
  write_stats(row, tile, filter.temperature, words, true, tiles_of(row_index));
  if (!is_last_block(row_tickets + row_index, gridDim.y)) return;

  const RowLaw law = find_law(row, tiles_of(row_index), filter);
  const Decision decision = Trial<T>(p, request, node, depth, tiles_of(row_index), law).begin();
  if (threadIdx.x == 0) {
    all_laws[row_index] = law;
    all_decisions[row_index] = decision;
  }
  if (!is_last_block(request_tickets + b, request.n_rows())) return;

  walk(request, [&](std::int32_t at, std::int32_t depth) -> Decision {
    const std::int64_t row_index = std::int64_t{request.first_row()} + at;
    const Decision decision = all_decisions[row_index];
    if (decision.token != kUndecided) return decision;
    const RowLaw law = all_laws[row_index];
    return Trial<T>(p, request, at, depth, tiles_of(row_index), law).finish(decision.child);
  });
}

}  // namespace specbranch
