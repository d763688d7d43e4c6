#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <type_traits>

#include "attention/cpu/attention_scratch.h"
#include "attention/cpu/online_softmax.h"
#include "attention/cpu/plan.h"
#include "attention/cpu/request_keys.h"
#include "attention/cpu/row_fetch.h"
#include "attention/cpu/tile_kernels.h"
#include "attention/params.h"
#include "common/cpu/vec.h"

namespace specbranch::SPECBRANCH_CPU_NS {

/// A chunk of a request's keys: tiles [first_tile, end_tile). Its partial results are each row's
/// `index`-th.
struct Chunk {
  std::int64_t b;
  std::int64_t index;
  std::int64_t first_tile;
  std::int64_t end_tile;
};

/// Query rows [first, first + count) of a KV head, of one request.
struct RowBlock {
  std::int64_t head;
  std::int64_t first;
  std::int64_t count;
};

/// Which keys of a tile the rows of a block see, a bit each.
struct VisibleKeys {
  std::uint64_t by_row[kBlockRows];
  std::uint64_t by_all = ~std::uint64_t{0};
  std::uint64_t by_any = 0;
};

/// Attention of a request's rows under the KV heads [first_head, end_head) over one chunk, tile by
/// tile. Rows share the keys of the context. From its end on each has a path of its own: draft
/// nodes are scored for all rows together, where they lie in the cache, and each row takes its own
/// to their positions on its path. What a row adds up, and in which order, is the same as if its
/// path were context.
template <class T>
class ChunkAttention {
 public:
  ChunkAttention(const BranchAttentionParams& p, const AttentionScratch& workspace,
                 const RequestKeys& keys, const Chunk& chunk, std::int64_t first_head,
                 std::int64_t end_head)
      : p_(p),
        workspace_(workspace),
        layout_(workspace.layout()),
        keys_(keys),
        chunk_(chunk),
        first_row_(keys.first_row() * layout_.group_size),
        end_row_(keys.end_row() * layout_.group_size),
        first_head_(first_head),
        end_head_(end_head) {}

  /// Fills the partial results of the chunk.
  void run() {
    for (std::int64_t h = first_head_; h < end_head_; ++h) {
      const Partial partial = workspace_.partial(h, chunk_.index);
      std::fill(partial.out + first_row_ * layout_.padded_dim,
                partial.out + end_row_ * layout_.padded_dim, 0.0f);
      std::fill(partial.states + first_row_, partial.states + end_row_, RowState{});
    }
    const std::int64_t end_of_context =
        std::clamp(keys_.num_context_tiles(), chunk_.first_tile, chunk_.end_tile);
    add_context_tiles(chunk_.first_tile, end_of_context);
    for (std::int64_t i = end_of_context; i < chunk_.end_tile; ++i) add_path_tile(i);
  }

 private:
  void add_context_tiles(std::int64_t first, std::int64_t end) {
    if (first == end) return;
    TileRows<T> rows[2];
    locate(keys_.context_of(first), rows[0]);
    for (std::int64_t i = first; i < end; ++i) {
      const TileRows<T>& current = rows[(i - first) % 2];
      TileRows<T>& next = rows[(i - first + 1) % 2];
      KeyTile next_tile = keys_.context_of(i + 1);
      if (next_tile.count == 0) next_tile = keys_.context_of(i);
      locate(next_tile, next);
      RowFetch<T> next_keys = fetch_of(next.keys, next_tile.count, p_.k_strides);
      RowFetch<T> next_values = fetch_of(next.values, next_tile.count, p_.v_strides);
      for_each_block([&](const RowBlock& block) {
        add_context_tile(keys_.tile(i), current, block, next_keys, next_values);
      });
    }
  }

  void add_path_tile(std::int64_t index) {
    const KeyTile context = keys_.context_of(index);
    TileRows<T> rows;
    locate(context, rows);
    for_each_block([&](const RowBlock& block) {
      add_path_tile(keys_.tile(index), context.count, rows, block);
    });
  }

  template <class F>
  void for_each_block(const F& f) const {
    for (std::int64_t h = first_head_; h < end_head_; ++h) {
      for (std::int64_t first = first_row_; first < end_row_; first += kBlockRows) {
        f(RowBlock{h, first, std::min(kBlockRows, end_row_ - first)});
      }
    }
  }

  void locate(const KeyTile& tile, TileRows<T>& rows) const {
    if (tile.count == 0) return;
    locate(static_cast<const T*>(p_.k_cache), p_.k_strides, tile, rows.keys);
    locate(static_cast<const T*>(p_.v_cache), p_.v_strides, tile, rows.values);
  }

  /// Pointers to keys or values of consecutive positions in the cache, page by page. Before the
  /// first key that is seen there may be no pages.
  void locate(const T* cache, const KvStrides& strides, const KeyTile& tile, const T** rows) const {
    const std::int64_t page_size = p_.block_table.page_size;
    const std::int64_t first = std::max<std::int64_t>(keys_.first_key() - tile.begin, 0);
    for (std::int64_t i = first; i < tile.count;) {
      const std::int64_t position = tile.begin + i;
      const std::int64_t run = std::min(page_size - position % page_size, tile.count - i);
      const T* row = cache + p_.block_table.offset(chunk_.b, position, strides);
      for (std::int64_t j = 0; j < run; ++j) rows[i++] = row + j * strides.slot;
    }
    std::fill(rows, rows + first, rows[first]);
    std::fill(rows + tile.count, rows + kTileKeys, rows[first]);
  }

  /// The loops of all panels over a tile share the fetching of the next one. In either product a
  /// step of a panel takes kPanelVecs vectors of the tile, whether of its keys or of its dimension.
  RowFetch<T> fetch_of(const T* const* rows, std::int64_t num_rows,
                       const KvStrides& strides) const {
    constexpr std::int64_t kStepElements = kPanelVecs * kLanes;
    const std::int64_t num_panels = ceil_div(end_row_ - first_row_, kPanelRows);
    return {rows,
            num_rows,
            {first_head_, end_head_, strides.head, p_.head_dim},
            ceil_div(kStepElements, RowFetch<T>::kLine * num_panels)};
  }

  // Each of the two products keeps one operand of at most kTileKeys * kBlockDim floats in the
  // innermost cache while all rows of a block pass by.

  void add_context_tile(const KeyTile& tile, const TileRows<T>& rows, const RowBlock& block,
                        RowFetch<T>& next_keys, RowFetch<T>& next_values) {
    const VisibleKeys visible = visible_keys(tile, block);
    if (visible.by_any == 0) return;
    score_rows(rows.keys, tile.count, block, next_keys, weights_);
    weigh_rows(tile, block, visible);
    add_context_values(rows, tile.count, block, visible, next_values);
  }

  /// The tile begins with `num_context` keys of context, at rows.
  void add_path_tile(const KeyTile& tile, std::int64_t num_context, const TileRows<T>& rows,
                     const RowBlock& block) {
    const VisibleKeys visible = visible_keys(tile, block);
    if (visible.by_any == 0) return;
    NoFetch nothing;
    score_rows(rows.keys, num_context, block, nothing, weights_);
    score_nodes(tile, block);
    weigh_rows(tile, block, visible);
    add_context_values(rows, num_context, block, visible, nothing);
    add_node_values(tile, num_context, block, visible);
  }

  std::int64_t query_row(const RowBlock& block, std::int64_t r) const {
    return (block.first + r) / layout_.group_size;
  }

  VisibleKeys visible_keys(const KeyTile& tile, const RowBlock& block) const {
    VisibleKeys visible;
    for (std::int64_t r = 0; r < block.count; ++r) {
      visible.by_row[r] = keys_.visible(query_row(block, r), tile);
      visible.by_all &= visible.by_row[r];
      visible.by_any |= visible.by_row[r];
    }
    return visible;
  }

  /// Scores of the nodes at positions of the tile go there in weights_.
  void score_nodes(const KeyTile& tile, const RowBlock& block) {
    std::int64_t first = keys_.num_keys();
    std::int64_t last = -1;
    const std::int64_t last_row = query_row(block, block.count - 1);
    for (std::int64_t row = query_row(block, 0); row <= last_row; ++row) {
      keys_.for_each_node(row, tile, [&](std::int64_t /*i*/, std::int64_t node) {
        first = std::min(first, node);
        last = std::max(last, node);
      });
    }
    for (; first <= last; first += kTileKeys) {
      score_nodes(tile, block, first, std::min(kTileKeys, last + 1 - first));
    }
  }

  /// The same for nodes [first, first + count) alone.
  void score_nodes(const KeyTile& tile, const RowBlock& block, std::int64_t first,
                   std::int64_t count) {
    const T* keys[kTileKeys];
    locate(static_cast<const T*>(p_.k_cache), p_.k_strides, {keys_.position_of(first), count},
           keys);
    NoFetch nothing;
    score_rows(keys, count, block, nothing, node_scores_);
    for (std::int64_t r = 0; r < block.count; ++r) {
      keys_.for_each_node(query_row(block, r), tile, [&](std::int64_t i, std::int64_t node) {
        if (node < first || node >= first + count) return;
        weights_[r * kTileKeys + i] = node_scores_[r * kTileKeys + node - first];
      });
    }
  }

  /// Scores in weights_ become weights.
  void weigh_rows(const KeyTile& tile, const RowBlock& block, const VisibleKeys& visible) {
    const std::int64_t whole = round_up_to_lanes(tile.count);
    const Partial partial = workspace_.partial(block.head, chunk_.index);
    for (std::int64_t r = 0; r < block.count; ++r) {
      float* scores = weights_ + r * kTileKeys;
      if (p_.softcap > 0) cap_scores(scores, whole, p_.softcap);
      hide_scores(scores, whole, visible.by_row[r]);
      update_softmax(scores, whole, partial.states[block.first + r], out_of(block, r),
                     layout_.padded_dim);
    }
  }

  /// Adds the weighted values of the first `count` keys of a tile.
  template <class Fetch>
  void add_context_values(const TileRows<T>& rows, std::int64_t count, const RowBlock& block,
                          const VisibleKeys& visible, Fetch& fetch) {
    const std::uint64_t all = low_bits(count);
    for_each_block_dim([&](std::int64_t d, std::int64_t width) {
      load_values(rows.values, 0, count, block.head * p_.v_strides.head + d, width);
      if ((visible.by_all & all) == all) {
        accumulate_all(count, round_up_to_lanes(width), block, d, fetch);
        return;
      }
      for (std::int64_t r = 0; r < block.count; ++r) {
        accumulate_row(weights_ + r * kTileKeys, values_, visible.by_row[r] & all,
                       round_up_to_lanes(width), out_of(block, r) + d);
      }
    });
  }

  /// Adds each row's own values of a tile, which come after `num_context` keys of context.
  void add_node_values(const KeyTile& tile, std::int64_t num_context, const RowBlock& block,
                       const VisibleKeys& visible) {
    const T* cache = static_cast<const T*>(p_.v_cache);
    const T* values[kTileKeys];
    for (std::int64_t r = 0; r < block.count; ++r) {
      const std::uint64_t nodes = visible.by_row[r] & ~low_bits(num_context);
      if (nodes == 0) continue;
      keys_.for_each_node(query_row(block, r), tile, [&](std::int64_t i, std::int64_t node) {
        const std::int64_t position = keys_.position_of(node);
        values[i] = cache + p_.block_table.offset(chunk_.b, position, p_.v_strides);
      });
      for_each_block_dim([&](std::int64_t d, std::int64_t width) {
        load_values(values, std::countr_zero(nodes), std::bit_width(nodes),
                    block.head * p_.v_strides.head + d, width);
        accumulate_row(weights_ + r * kTileKeys, values_, nodes, round_up_to_lanes(width),
                       out_of(block, r) + d);
      });
    }
  }

  float* out_of(const RowBlock& block, std::int64_t r) const {
    const Partial partial = workspace_.partial(block.head, chunk_.index);
    return partial.out + (block.first + r) * layout_.padded_dim;
  }

  template <class F>
  void for_each_block_dim(const F& f) const {
    for (std::int64_t d = 0; d < p_.head_dim; d += kBlockDim) {
      f(d, std::min(kBlockDim, p_.head_dim - d));
    }
  }

  /// scores [kBlockRows][kTileKeys] become those of the first num_keys keys, and 0 beyond these.
  template <class Fetch>
  void score_rows(const T* const* keys, std::int64_t num_keys, const RowBlock& block, Fetch& fetch,
                  float* scores) {
    const std::int64_t whole = round_up_to_lanes(num_keys);
    const std::int64_t stride = layout_.padded_dim;
    const float* queries = workspace_.queries(block.head) + block.first * stride;
    std::fill_n(scores, block.count * kTileKeys, 0.0f);
    for_each_block_dim([&](std::int64_t d, std::int64_t width) {
      transpose_keys(keys, whole, block.head * p_.k_strides.head + d, width, buffer_);
      for_each_panel(block.count, [&]<int num_rows>(std::int64_t row) {
        score_panel<num_rows>(queries + row * stride + d, stride, buffer_, whole, width,
                              scores + row * kTileKeys, fetch);
      });
    });
  }

  template <class Fetch>
  void accumulate_all(std::int64_t num_keys, std::int64_t width, const RowBlock& block,
                      std::int64_t d, Fetch& fetch) const {
    for_each_panel(block.count, [&]<int num_rows>(std::int64_t row) {
      accumulate_panel<num_rows>(weights_ + row * kTileKeys, values_, num_keys, width,
                                 out_of(block, row) + d, layout_.padded_dim, fetch);
    });
  }

  /// values_[first ... end) become `width` elements of a tile's values from `offset` on, as floats
  /// in whole vectors: where they lie in the cache, if they are that already.
  void load_values(const T* const* values, std::int64_t first, std::int64_t end,
                   std::int64_t offset, std::int64_t width) {
    for (std::int64_t i = first; i < end; ++i) {
      if constexpr (std::is_same_v<T, float>) values_[i] = values[i] + offset;
      if (!reads_in_place(width)) values_[i] = stage_value(values[i] + offset, width, i);
    }
  }

  static bool reads_in_place(std::int64_t width) {
    return std::is_same_v<T, float> && width % kLanes == 0;
  }

  const float* stage_value(const T* value, std::int64_t width, std::int64_t i) {
    float* staged = buffer_ + i * kBlockDim;
    for (std::int64_t d = 0; d < width; d += kLanes) {
      store(staged + d, load(value + d, std::min<std::int64_t>(kLanes, width - d)));
    }
    return staged;
  }

  const BranchAttentionParams& p_;
  const AttentionScratch& workspace_;
  const ScratchLayout& layout_;
  const RequestKeys& keys_;
  const Chunk chunk_;
  const std::int64_t first_row_;  // of a KV head
  const std::int64_t end_row_;
  const std::int64_t first_head_;
  const std::int64_t end_head_;
  const float* values_[kTileKeys];
  alignas(64) float weights_[kBlockRows * kTileKeys];
  alignas(64) float node_scores_[kBlockRows * kTileKeys];
  alignas(64) float buffer_[kTileKeys * kBlockDim];  // of one product: transposed keys, or values
};

}  // namespace specbranch::SPECBRANCH_CPU_NS
