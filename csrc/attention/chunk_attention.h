#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "attention/online_softmax.h"
#include "attention/params.h"
#include "attention/plan.h"
#include "attention/request_keys.h"
#include "attention/tile_kernels.h"
#include "common/vec.h"

namespace specbranch::SPECBRANCH_CPU_NS {

/// Result of some keys: rows of sums of weighted values, and each row's softmax so far.
struct Partial {
  float* out;
  RowState* states;
};

/// Attention of all rows of one KV head over a run of tiles.
template <class T>
class ChunkAttention {
 public:
  ChunkAttention(const BranchAttentionParams& p, const WorkspaceLayout& layout,
                 const RequestKeys& keys, std::int64_t b, std::int64_t h, const float* queries,
                 const Partial& partial)
      : p_(p), layout_(layout), keys_(keys), b_(b), h_(h), queries_(queries), partial_(partial) {
    std::fill_n(partial.out, layout.rows * layout.padded_dim, 0.0f);
    std::fill_n(partial.states, layout.rows, RowState{kMinusInfinity, 0.0f});
  }

  /// Adds the tiles [begin, end) to the partial result.
  void add_tiles(std::int64_t begin, std::int64_t end) {
    TileRows<T> rows[2];
    if (begin < end) locate(keys_.tile(begin), rows[0]);
    for (std::int64_t i = begin; i < end; ++i) {
      const TileRows<T>& current = rows[(i - begin) % 2];
      TileRows<T>& next = rows[(i - begin + 1) % 2];
      locate(keys_.tile(std::min(i + 1, end - 1)), next);
      const KeyTile tile = keys_.tile(i);
      transpose_keys(current, next, tile.count, p_.head_dim, keys_buffer_);
      load_values(current, tile.count);
      add_tile(tile);
    }
  }

 private:
  /// fp32 values in whole vectors are read where they lie in the cache.
  bool reads_values_in_place() const {
    return std::is_same_v<T, float> && p_.head_dim % kLanes == 0;
  }

  void locate(const KeyTile& tile, TileRows<T>& rows) const {
    locate(static_cast<const T*>(p_.k_cache), p_.k_strides, tile, rows.keys);
    locate(static_cast<const T*>(p_.v_cache), p_.v_strides, tile, rows.values);
  }

  /// Row pointers of a tile under this head, page by page.
  void locate(const T* cache, const KvStrides& strides, const KeyTile& tile, const T** rows) const {
    const std::int64_t page_size = p_.block_table.page_size;
    for (std::int64_t i = 0; i < tile.count;) {
      const std::int64_t position = tile.begin + i;
      const std::int64_t run = std::min(page_size - position % page_size, tile.count - i);
      const T* row = cache + p_.block_table.offset(b_, position, strides) + h_ * strides.head;
      for (std::int64_t j = 0; j < run; ++j) rows[i++] = row + j * strides.slot;
    }
    std::fill(rows + tile.count, rows + kTileKeys, rows[0]);
  }

  void load_values(const TileRows<T>& rows, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
      if constexpr (std::is_same_v<T, float>) {
        values_[i] = rows.values[i];
      }
      if (!reads_values_in_place()) values_[i] = stage_value(rows.values[i], i);
    }
  }

  const float* stage_value(const T* value, std::int64_t i) {
    float* staged = values_buffer_ + i * layout_.padded_dim;
    for (std::int64_t d = 0; d < p_.head_dim; d += kLanes) {
      const std::int64_t width = std::min<std::int64_t>(kLanes, p_.head_dim - d);
      store(staged + d, load(value + d, width));
    }
    return staged;
  }

  void add_tile(const KeyTile& tile) {
    const std::int64_t num_panels = ceil_div(layout_.rows, kPanelRows);
    for (std::int64_t i = 0; i < num_panels; ++i) {
      const std::int64_t first = i * layout_.rows / num_panels;
      const std::int64_t end = (i + 1) * layout_.rows / num_panels;
      with_static_count<kPanelRows>(end - first,
                                    [&]<int num_rows>() { add_panel<num_rows>(tile, first); });
    }
  }

  template <int num_rows>
  void add_panel(const KeyTile& tile, std::int64_t first) {
    std::uint64_t visible[num_rows];
    std::uint64_t seen_by_all = ~std::uint64_t{0};
    std::uint64_t seen_by_any = 0;
    for (int r = 0; r < num_rows; ++r) {
      visible[r] = keys_.visible((first + r) / layout_.group_size, tile);
      seen_by_all &= visible[r];
      seen_by_any |= visible[r];
    }
    if (seen_by_any == 0) return;

    const std::int64_t whole = round_up_to_lanes(tile.count);
    score_panel<num_rows>(queries_ + first * layout_.padded_dim, layout_.padded_dim, keys_buffer_,
                          whole, p_.head_dim, weights_);
    for (int r = 0; r < num_rows; ++r) {
      float* scores = weights_ + r * kTileKeys;
      if (p_.softcap > 0) cap_scores(scores, whole, p_.softcap);
      hide_scores(scores, whole, visible[r]);
    }
    float rescale[num_rows];
    update_softmax<num_rows>(weights_, whole, partial_.states + first, rescale);

    float* out = partial_.out + first * layout_.padded_dim;
    const std::int64_t dim = round_up_to_lanes(p_.head_dim);
    if (seen_by_all == low_bits(tile.count)) {
      accumulate_panel<num_rows>(weights_, rescale, values_, tile.count, dim, out,
                                 layout_.padded_dim);
      return;
    }
    for (int r = 0; r < num_rows; ++r) {
      accumulate_visible(weights_ + r * kTileKeys, rescale[r], values_, visible[r], dim,
                         out + r * layout_.padded_dim);
    }
  }

  const BranchAttentionParams& p_;
  const WorkspaceLayout& layout_;
  const RequestKeys& keys_;
  const std::int64_t b_;
  const std::int64_t h_;
  const float* queries_;
  const Partial partial_;
  const float* values_[kTileKeys];
  alignas(64) float weights_[kPanelRows * kTileKeys];
  alignas(64) float keys_buffer_[kMaxHeadDim * kTileKeys];
  alignas(64) float values_buffer_[kTileKeys * kMaxHeadDim];
};

}  // namespace specbranch::SPECBRANCH_CPU_NS
