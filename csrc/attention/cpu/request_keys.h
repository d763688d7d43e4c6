#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "attention/cpu/plan.h"
#include "attention/params.h"
#include "common/cpu/kernels.h"

namespace specbranch::SPECBRANCH_CPU_NS {

/// Positions [begin, begin + count) on the paths of a request's rows.
struct KeyTile {
  std::int64_t begin;
  std::int64_t count;
};

/// The `count` lowest bits, none of them if it is negative.
constexpr std::uint64_t low_bits(std::int64_t count) {
  if (count <= 0) return 0;
  return count >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
}

/// The keys of one request, in tiles, and which of them each of its query rows sees. A row's path
/// is the committed context, which all rows share, followed by the draft nodes of its mask, in
/// order of depth; it sees its path less what a sliding window hides. Tiles are of positions on
/// the path and begin at multiples of kTileKeys, wherever the context ends.
class RequestKeys {
 public:
  RequestKeys(const BranchAttentionParams& p, std::int64_t b)
      : mask_(p.ancestor_mask),
        mask_stride_(p.mask_stride),
        first_row_(p.row_indptr[b]),
        end_row_(p.row_indptr[b + 1]),
        context_len_(p.context_lens[b]),
        n_nodes_(p.n_nodes[b]),
        window_(p.window == 0 ? num_keys() : p.window),
        first_key_(hides_keys() ? first_key_of_any_row() : 0) {}

  std::int64_t first_row() const { return first_row_; }
  std::int64_t end_row() const { return end_row_; }
  std::int64_t num_keys() const { return context_len_ + n_nodes_; }

  /// No row sees a key before this one, so none is read.
  std::int64_t first_key() const { return first_key_; }

  /// Tiles from first_tile to end_tile have all positions that some row sees.
  std::int64_t first_tile() const { return first_key_ / kTileKeys; }
  std::int64_t end_tile() const { return ceil_div(num_keys(), kTileKeys); }

  KeyTile tile(std::int64_t index) const { return tile_before(index, num_keys()); }

  /// Tiles of context alone.
  std::int64_t num_context_tiles() const { return context_len_ / kTileKeys; }

  /// The positions of a tile that are context; none where no row sees them.
  KeyTile context_of(std::int64_t index) const {
    const KeyTile tile = tile_before(index, context_len_);
    return tile.begin + tile.count > first_key_ ? tile : KeyTile{tile.begin, 0};
  }

  /// Where in the cache, as a position of this request, a draft node lies.
  std::int64_t position_of(std::int64_t node) const { return context_len_ + node; }

  /// Bit i: `row` sees its key at the tile's i-th position.
  std::uint64_t visible(std::int64_t row, const KeyTile& tile) const {
    if (!hides_keys() && tile.begin + tile.count <= context_len_) return low_bits(tile.count);
    const std::int64_t end = path_length(row) - tile.begin;
    return low_bits(std::min(end, tile.count)) & ~low_bits(end - window_);
  }

  /// Calls f(i, node) for each node of a row's path at a position of the tile, its i-th.
  template <class F>
  void for_each_node(std::int64_t row, const KeyTile& tile, const F& f) const {
    std::int64_t i = context_len_ - tile.begin;
    for (std::int64_t first = 0; first < n_nodes_ && i < tile.count; first += 64) {
      for (std::uint64_t bits = mask_bits(row, first); bits != 0; bits &= bits - 1, ++i) {
        if (i >= 0 && i < tile.count) f(i, first + std::countr_zero(bits));
      }
    }
  }

 private:
  static KeyTile tile_before(std::int64_t index, std::int64_t end) {
    const std::int64_t begin = index * kTileKeys;
    return {begin, std::clamp<std::int64_t>(end - begin, 0, kTileKeys)};
  }

  bool hides_keys() const { return window_ < num_keys(); }

  std::int64_t first_key_of_any_row() const {
    std::int64_t shortest = num_keys();
    for (std::int64_t row = first_row_; row < end_row_; ++row) {
      shortest = std::min(shortest, path_length(row));
    }
    return std::clamp<std::int64_t>(shortest - window_, 0, context_len_);
  }

  std::int64_t path_length(std::int64_t row) const {
    std::int64_t length = context_len_;
    for (std::int64_t first = 0; first < n_nodes_; first += 64) {
      length += std::popcount(mask_bits(row, first));
    }
    return length;
  }

  /// 64 mask bits of a row from node `first`, a multiple of 64, on; 0 beyond the block.
  std::uint64_t mask_bits(std::int64_t row, std::int64_t first) const {
    const std::int32_t* words = mask_ + row * mask_stride_ + first / 32;
    const std::int64_t count = n_nodes_ - first;
    std::uint64_t bits = static_cast<std::uint32_t>(words[0]);
    if (count > 32) bits |= std::uint64_t{static_cast<std::uint32_t>(words[1])} << 32;
    return bits & low_bits(count);
  }

  const std::int32_t* mask_;
  std::int64_t mask_stride_;
  std::int64_t first_row_;
  std::int64_t end_row_;
  std::int64_t context_len_;
  std::int64_t n_nodes_;
  std::int64_t window_;
  std::int64_t first_key_;
};

}  // namespace specbranch::SPECBRANCH_CPU_NS
