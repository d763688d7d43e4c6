#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "attention/params.h"
#include "attention/plan.h"
#include "common/cpu_kernels.h"

namespace specbranch::SPECBRANCH_CPU_NS {

/// Keys [begin, begin + count) of a request: all of them committed context, or all draft nodes.
struct KeyTile {
  std::int64_t begin;
  std::int64_t count;
};

/// The `count` lowest bits.
constexpr std::uint64_t low_bits(std::int64_t count) {
  return count >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
}

constexpr std::uint64_t clear_lowest_set_bits(std::uint64_t bits, std::int64_t count) {
  for (; count > 0 && bits != 0; --count) bits &= bits - 1;
  return bits;
}

/// The keys of one request, in tiles, and which of them each query row sees: the whole committed
/// context and the draft nodes of its mask, less what a sliding window hides. A row's path is the
/// context followed by its nodes; the window counts positions on that path.
class RequestKeys {
 public:
  RequestKeys(const BranchAttentionParams& p, std::int64_t b)
      : mask_(p.ancestor_mask + b * p.mask_batch_stride),
        row_stride_(p.mask_row_stride),
        window_(p.window),
        context_len_(p.context_lens[b]),
        n_nodes_(p.n_nodes[b]),
        first_key_(window_ == 0 ? 0 : first_key_of_any_row(p.num_rows)),
        context_tiles_(ceil_div(context_len_ - first_key_, kTileKeys)) {}

  std::int64_t num_keys() const { return context_len_ + n_nodes_; }

  /// No row sees a key before this one, so none is read.
  std::int64_t first_key() const { return first_key_; }

  std::int64_t num_tiles() const { return context_tiles_ + ceil_div(n_nodes_, kTileKeys); }

  KeyTile tile(std::int64_t index) const {
    const bool is_context = index < context_tiles_;
    const std::int64_t begin = is_context ? first_key_ + index * kTileKeys
                                          : context_len_ + (index - context_tiles_) * kTileKeys;
    const std::int64_t end = is_context ? context_len_ : context_len_ + n_nodes_;
    return {begin, std::min(kTileKeys, end - begin)};
  }

  /// Bit i: `row` sees the tile's i-th key.
  std::uint64_t visible(std::int64_t row, const KeyTile& tile) const {
    if (tile.begin >= context_len_) return visible_nodes(row, tile.begin - context_len_);
    const std::int64_t hidden = window_ == 0 ? 0 : first_in_window(row) - tile.begin;
    return low_bits(tile.count) & ~low_bits(std::max<std::int64_t>(hidden, 0));
  }

 private:
  std::int64_t first_key_of_any_row(std::int64_t num_rows) const {
    std::int64_t first = context_len_;
    for (std::int64_t row = 0; row < num_rows; ++row) first = std::min(first, first_in_window(row));
    return std::max<std::int64_t>(first, 0);
  }

  /// 64 mask bits of a row from node `first`, a multiple of 64, on; 0 beyond the block.
  std::uint64_t mask_bits(std::int64_t row, std::int64_t first) const {
    const std::int32_t* words = mask_ + row * row_stride_ + first / 32;
    const std::int64_t count = n_nodes_ - first;
    std::uint64_t bits = static_cast<std::uint32_t>(words[0]);
    if (count > 32) bits |= std::uint64_t{static_cast<std::uint32_t>(words[1])} << 32;
    return bits & low_bits(count);
  }

  /// Nodes before `end` on a row's path.
  std::int64_t path_nodes(std::int64_t row, std::int64_t end) const {
    std::int64_t nodes = 0;
    for (std::int64_t first = 0; first < end; first += 64) {
      nodes += std::popcount(mask_bits(row, first) & low_bits(end - first));
    }
    return nodes;
  }

  /// The position on its path of the first key that a row's window leaves visible.
  std::int64_t first_in_window(std::int64_t row) const {
    return context_len_ + path_nodes(row, n_nodes_) - window_;
  }

  std::uint64_t visible_nodes(std::int64_t row, std::int64_t first) const {
    const std::uint64_t bits = mask_bits(row, first);
    if (window_ == 0) return bits;
    const std::int64_t position = context_len_ + path_nodes(row, first);
    return clear_lowest_set_bits(bits, first_in_window(row) - position);
  }

  const std::int32_t* mask_;
  std::int64_t row_stride_;
  std::int64_t window_;
  std::int64_t context_len_;
  std::int64_t n_nodes_;
  std::int64_t first_key_;
  std::int64_t context_tiles_;
};

}  // namespace specbranch::SPECBRANCH_CPU_NS
