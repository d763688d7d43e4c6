#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "attention/attention_scratch.h"
#include "attention/online_softmax.h"
#include "attention/params.h"
#include "attention/plan.h"
#include "attention/request_keys.h"
#include "attention/row_fetch.h"
#include "attention/tile_kernels.h"
#include "common/vec.h"

namespace specbranch::SPECBRANCH_CPU_NS {

/// A chunk of a request's keys.
struct Chunk {
  std::int64_t b;
  std::int64_t index;
  std::int64_t first_tile;
  std::int64_t end_tile;
};

/// Query rows [first, first + count) of a KV head.
struct RowBlock {
  std::int64_t head;
  std::int64_t first;
  std::int64_t count;
};

/// Attention of all rows of the KV heads [first_head, end_head) over one chunk, tile by tile.
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
        first_head_(first_head),
        end_head_(end_head) {}

  /// Fills the partial results of the chunk.
  void run() {
    for (std::int64_t h = first_head_; h < end_head_; ++h) {
      const Partial partial = workspace_.partial(chunk_.b, h, chunk_.index);
      std::fill_n(partial.out, layout_.rows * layout_.padded_dim, 0.0f);
      std::fill_n(partial.states, layout_.rows, RowState{});
    }
    TileRows<T> rows[2];
    if (chunk_.first_tile < chunk_.end_tile) locate(keys_.tile(chunk_.first_tile), rows[0]);
    for (std::int64_t i = chunk_.first_tile; i < chunk_.end_tile; ++i) {
      const TileRows<T>& current = rows[(i - chunk_.first_tile) % 2];
      TileRows<T>& next = rows[(i - chunk_.first_tile + 1) % 2];
      const KeyTile next_tile = keys_.tile(std::min(i + 1, keys_.num_tiles() - 1));
      locate(next_tile, next);
      add_tile(keys_.tile(i), current, next_tile, next);
    }
  }

 private:
  void locate(const KeyTile& tile, TileRows<T>& rows) const {
    locate(static_cast<const T*>(p_.k_cache), p_.k_strides, tile, rows.keys);
    locate(static_cast<const T*>(p_.v_cache), p_.v_strides, tile, rows.values);
  }

  /// Row pointers of a tile, page by page.
  void locate(const T* cache, const KvStrides& strides, const KeyTile& tile, const T** rows) const {
    const std::int64_t page_size = p_.block_table.page_size;
    for (std::int64_t i = 0; i < tile.count;) {
      const std::int64_t position = tile.begin + i;
      const std::int64_t run = std::min(page_size - position % page_size, tile.count - i);
      const T* row = cache + p_.block_table.offset(chunk_.b, position, strides);
      for (std::int64_t j = 0; j < run; ++j) rows[i++] = row + j * strides.slot;
    }
    std::fill(rows + tile.count, rows + kTileKeys, rows[0]);
  }

  void add_tile(const KeyTile& tile, const TileRows<T>& rows, const KeyTile& next_tile,
                const TileRows<T>& next) {
    RowFetch<T> next_keys = fetch_of(next.keys, next_tile.count, p_.k_strides);
    RowFetch<T> next_values = fetch_of(next.values, next_tile.count, p_.v_strides);
    for (std::int64_t h = first_head_; h < end_head_; ++h) {
      for (std::int64_t first = 0; first < layout_.rows; first += kBlockRows) {
        const RowBlock block{h, first, std::min(kBlockRows, layout_.rows - first)};
        add_rows(tile, rows, block, next_keys, next_values);
      }
    }
  }

  /// The loops of all panels over a tile share the fetching of the next one. In either product a
  /// step of a panel takes kPanelVecs vectors of the tile, whether of its keys or of its dimension.
  RowFetch<T> fetch_of(const T* const* rows, std::int64_t num_rows,
                       const KvStrides& strides) const {
    constexpr std::int64_t kStepElements = kPanelVecs * kLanes;
    const std::int64_t num_panels = ceil_div(layout_.rows, kPanelRows);
    return {rows,
            num_rows,
            {first_head_, end_head_, strides.head, p_.head_dim},
            ceil_div(kStepElements, RowFetch<T>::kLine * num_panels)};
  }

  /// Adds one tile to a block of rows. Each of the two products keeps one operand of at most
  /// kTileKeys * kBlockDim floats in the innermost cache while all rows pass by.
  void add_rows(const KeyTile& tile, const TileRows<T>& rows, const RowBlock& block,
                RowFetch<T>& next_keys, RowFetch<T>& next_values) {
    std::uint64_t visible[kBlockRows];
    std::uint64_t seen_by_all = ~std::uint64_t{0};
    std::uint64_t seen_by_any = 0;
    for (std::int64_t r = 0; r < block.count; ++r) {
      visible[r] = keys_.visible((block.first + r) / layout_.group_size, tile);
      seen_by_all &= visible[r];
      seen_by_any |= visible[r];
    }
    if (seen_by_any == 0) return;

    const std::int64_t whole = round_up_to_lanes(tile.count);
    score_rows(rows.keys, whole, block, next_keys);
    const Partial partial = workspace_.partial(chunk_.b, block.head, chunk_.index);
    const std::int64_t stride = layout_.padded_dim;
    float* out = partial.out + block.first * stride;
    for (std::int64_t r = 0; r < block.count; ++r) {
      float* scores = weights_ + r * kTileKeys;
      if (p_.softcap > 0) cap_scores(scores, whole, p_.softcap);
      hide_scores(scores, whole, visible[r]);
      update_softmax(scores, whole, partial.states[block.first + r], out + r * stride, stride);
    }
    for (std::int64_t d = 0; d < p_.head_dim; d += kBlockDim) {
      const std::int64_t width = std::min(kBlockDim, p_.head_dim - d);
      load_values(rows.values, tile.count, block.head * p_.v_strides.head + d, width);
      if (seen_by_all == low_bits(tile.count)) {
        accumulate_all(tile.count, round_up_to_lanes(width), block.count, out + d, next_values);
      } else {
        accumulate_visible(visible, round_up_to_lanes(width), block.count, out + d);
      }
    }
  }

  void score_rows(const T* const* keys, std::int64_t num_keys, const RowBlock& block,
                  RowFetch<T>& fetch) {
    const std::int64_t stride = layout_.padded_dim;
    const float* queries = workspace_.queries(chunk_.b, block.head) + block.first * stride;
    std::fill_n(weights_, block.count * kTileKeys, 0.0f);
    for (std::int64_t d = 0; d < p_.head_dim; d += kBlockDim) {
      const std::int64_t width = std::min(kBlockDim, p_.head_dim - d);
      transpose_keys(keys, num_keys, block.head * p_.k_strides.head + d, width, buffer_);
      for_each_panel(block.count, [&]<int num_rows>(std::int64_t row) {
        score_panel<num_rows>(queries + row * stride + d, stride, buffer_, num_keys, width,
                              weights_ + row * kTileKeys, fetch);
      });
    }
  }

  void accumulate_all(std::int64_t num_keys, std::int64_t width, std::int64_t count, float* out,
                      RowFetch<T>& fetch) const {
    const std::int64_t stride = layout_.padded_dim;
    for_each_panel(count, [&]<int num_rows>(std::int64_t row) {
      accumulate_panel<num_rows>(weights_ + row * kTileKeys, values_, num_keys, width,
                                 out + row * stride, stride, fetch);
    });
  }

  void accumulate_visible(const std::uint64_t* visible, std::int64_t width, std::int64_t count,
                          float* out) const {
    for (std::int64_t r = 0; r < count; ++r) {
      accumulate_row(weights_ + r * kTileKeys, values_, visible[r], width,
                     out + r * layout_.padded_dim);
    }
  }

  /// values_ become `width` elements of a tile's values from `offset` on, as floats in whole
  /// vectors: where they lie in the cache, if they are that already.
  void load_values(const T* const* values, std::int64_t count, std::int64_t offset,
                   std::int64_t width) {
    for (std::int64_t i = 0; i < count; ++i) {
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
  const std::int64_t first_head_;
  const std::int64_t end_head_;
  const float* values_[kTileKeys];
  alignas(64) float weights_[kBlockRows * kTileKeys];
  alignas(64) float buffer_[kTileKeys * kBlockDim];  // of one product: transposed keys, or values
};

}  // namespace specbranch::SPECBRANCH_CPU_NS
