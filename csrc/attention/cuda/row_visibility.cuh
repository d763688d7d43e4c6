#pragma once

#include <cstdint>

#include "attention/cuda/row_tile.cuh"
#include "common/cuda/prims.cuh"

namespace specbranch {

/// The `count` lowest of 64 bits.
__device__ inline std::uint64_t lowest_bits(int count) {
  if (count <= 0) return 0;
  return count >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
}

/// Which keys the rows of a block see: the whole committed context and the draft nodes of their
/// masks, less what a sliding window hides. A row's path is the context followed by its nodes; the
/// window counts positions on that path. Keys beyond the block's nodes are seen by no row.
class RowVisibility {
 public:
  /// starts [rows.count] is shared memory. Call from all threads; synchronises them.
  __device__ RowVisibility(const BranchAttentionParams& p, const RowTile& rows, int* starts)
      : mask_(p.ancestor_mask),
        mask_stride_(p.mask_stride),
        rows_(rows),
        window_(static_cast<int>(p.window)),
        context_len_(p.context_lens[rows.b]),
        n_nodes_(p.n_nodes[rows.b]),
        starts_(starts) {
    if (window_ == 0) return;
    for (int r = threadIdx.x; r < rows.count; r += blockDim.x) {
      starts[r] = context_len_ + nodes_before(r, n_nodes_) - window_;
    }
    __syncthreads();
    first_ = context_len_;
    for (int r = 0; r < rows.count; ++r) {
      first_ = min(first_, starts[r]);
      last_start_ = max(last_start_, starts[r]);
    }
    first_ = max(first_, 0);
  }

  /// No row sees a key before this one.
  __device__ int first_key() const { return first_; }

  __device__ int num_keys() const { return context_len_ + n_nodes_; }

  __device__ bool all_visible(int begin, int end) const {
    return begin >= last_start_ && end <= context_len_;
  }

  /// Bit i: row r sees key begin + i.
  __device__ std::uint64_t visible(int r, int begin) const {
    const int context = context_len_ - begin;
    const int start = window_ == 0 ? 0 : starts_[r];
    std::uint64_t bits = lowest_bits(context) & ~lowest_bits(start - begin);
    if (context < 64) {
      const std::uint64_t nodes = visible_nodes(r, max(-context, 0), start - context_len_);
      bits |= nodes << max(context, 0);
    }
    return bits;
  }

 private:
  __device__ std::uint64_t mask_word(int r, int word) const {
    if (32 * word >= n_nodes_) return 0;
    return static_cast<std::uint32_t>(mask_[rows_.query_row(r) * mask_stride_ + word]);
  }

  /// 64 mask bits of a row from node `first` on; 0 beyond the block.
  __device__ std::uint64_t mask_bits(int r, int first) const {
    const int word = first / 32;
    const int shift = first % 32;
    std::uint64_t bits = (mask_word(r, word) | mask_word(r, word + 1) << 32) >> shift;
    if (shift > 0) bits |= mask_word(r, word + 2) << (64 - shift);
    return bits & lowest_bits(n_nodes_ - first);
  }

  /// Nodes of a row's path before node `end`.
  __device__ int nodes_before(int r, int end) const {
    int nodes = 0;
    for (int first = 0; first < end; first += 64) {
      nodes += __popcll(mask_bits(r, first) & lowest_bits(end - first));
    }
    return nodes;
  }

  /// Mask bits from node `first` on, without those of the first `hidden` nodes of the path.
  __device__ std::uint64_t visible_nodes(int r, int first, int hidden) const {
    std::uint64_t bits = mask_bits(r, first);
    if (hidden <= 0) return bits;
    for (int excess = hidden - nodes_before(r, first); excess > 0 && bits != 0; --excess) {
      bits &= bits - 1;
    }
    return bits;
  }

  const std::int32_t* mask_;
  std::int64_t mask_stride_;
  RowTile rows_;
  int window_;
  int context_len_;
  int n_nodes_;
  const int* starts_;  // position of the first key that a row's window leaves visible
  int first_ = 0;
  int last_start_ = 0;
};

/// The keys of a block: its share of [first_key, num_keys), in whole key tiles but for the end.
/// Splits of a fixed size begin at its multiples; what they have before first_key may lie nowhere.
struct KeySplit {
  int first_key;
  int count;  // splits that have keys, or 1
  int begin;
  int end;

  __device__ KeySplit(const RowVisibility& visibility, const SplitPlan& plan)
      : first_key(visibility.first_key()) {
    int first = first_key;
    int size = plan.split_size;
    if (size > 0) {
      first = first / size * size;
    } else {
      const int tiles = ceil_divide(visibility.num_keys() - first, plan.tile.keys);
      size = max(ceil_divide(tiles, plan.max_splits), kMinSplitTiles) * plan.tile.keys;
    }
    count = max(ceil_divide(visibility.num_keys() - first, size), 1);
    begin = first + blockIdx.y * size;
    end = min(begin + size, visibility.num_keys());
  }
};

}  // namespace specbranch
