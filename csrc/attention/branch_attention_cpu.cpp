#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "attention/online_softmax.h"
#include "attention/params.h"
#include "attention/plan.h"
#include "attention/request_keys.h"
#include "attention/tile_kernels.h"
#include "common/cpu_kernels.h"
#include "common/parallel.h"
#include "common/vec.h"
#include "common/work_queue.h"

// Flash-decoding on a CPU. A work item is a chunk of one request's keys under one KV head. All
// query rows that share the head (Q * group size) are scored against a tile of keys while it lies
// in the innermost caches, so the context is read from memory once. Items leave partial results,
// which a last pass merges in the order of the chunks.
namespace specbranch::SPECBRANCH_CPU_NS {
namespace {

constexpr std::int64_t kMaxHeadDim = 256;
constexpr std::int64_t kProductsWorthAThread = 1 << 18;

/// Result of some keys: rows of sums of weighted values, and each row's softmax so far.
struct Partial {
  float* out;
  RowState* states;
};

/// Where the parts of the workspace lie. A head is numbered b * num_kv_heads + h.
class Workspace {
 public:
  explicit Workspace(const BranchAttentionParams& p)
      : layout_(p),
        queries_(p.workspace),
        partials_(p.workspace + p.batch_size * p.num_kv_heads * layout_.queries_size) {}

  const WorkspaceLayout& layout() const { return layout_; }

  float* queries(std::int64_t head) const { return queries_ + head * layout_.queries_size; }

  Partial partial(std::int64_t head, std::int64_t chunk) const {
    float* out = partials_ + (head * layout_.max_chunks + chunk) * layout_.partial_size;
    return {out, reinterpret_cast<RowState*>(out + layout_.rows * layout_.padded_dim)};
  }

 private:
  WorkspaceLayout layout_;
  float* queries_;
  float* partials_;
};

/// The query rows of one KV head as fp32, scaled: [Q, group] rows of padded_dim floats.
template <class T>
void pack_queries(const BranchAttentionParams& p, const WorkspaceLayout& layout, std::int64_t b,
                  std::int64_t h, float* queries) {
  for (std::int64_t r = 0; r < layout.rows; ++r) {
    const std::int64_t head = h * layout.group_size + r % layout.group_size;
    const T* query = static_cast<const T*>(p.q) + b * p.q_strides.batch +
                     r / layout.group_size * p.q_strides.row + head * p.q_strides.head;
    for (std::int64_t d = 0; d < p.head_dim; d += kLanes) {
      const std::int64_t width = std::min<std::int64_t>(kLanes, p.head_dim - d);
      store(queries + r * layout.padded_dim + d, load(query + d, width) * Vec(p.scale));
    }
  }
}

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

  void add(const KeyTile& tile) {
    load_tile(tile);
    const std::int64_t num_panels = ceil_div(layout_.rows, kPanelRows);
    for (std::int64_t i = 0; i < num_panels; ++i) {
      const std::int64_t first = i * layout_.rows / num_panels;
      const std::int64_t end = (i + 1) * layout_.rows / num_panels;
      with_static_count<kPanelRows>(end - first,
                                    [&]<int num_rows>() { add_panel<num_rows>(tile, first); });
    }
  }

 private:
  /// fp32 values in whole vectors are read where they lie in the cache.
  bool reads_values_in_place() const {
    return std::is_same_v<T, float> && p_.head_dim % kLanes == 0;
  }

  void load_tile(const KeyTile& tile) {
    const T* key_rows[kTileKeys];
    const T* value_rows[kTileKeys];
    locate(static_cast<const T*>(p_.k_cache), p_.k_strides, tile, key_rows);
    locate(static_cast<const T*>(p_.v_cache), p_.v_strides, tile, value_rows);
    const std::int64_t whole = round_up_to_lanes(tile.count);
    std::fill(key_rows + tile.count, key_rows + whole, key_rows[0]);
    transpose_keys(key_rows, whole, p_.head_dim, keys_buffer_);

    for (std::int64_t i = 0; i < tile.count; ++i) {
      if constexpr (std::is_same_v<T, float>) {
        values_[i] = value_rows[i];
      }
      if (!reads_values_in_place()) values_[i] = stage_value(value_rows[i], i);
    }
  }

  /// Row pointers of a tile's keys under this head, page by page.
  void locate(const T* cache, const KvStrides& strides, const KeyTile& tile, const T** rows) const {
    const std::int64_t page_size = p_.block_table.page_size;
    const std::int64_t end = tile.begin + tile.count;
    for (std::int64_t position = tile.begin; position < end;) {
      const std::int64_t slot = position % page_size;
      const std::int64_t run = std::min(page_size - slot, end - position);
      const T* row = cache + p_.block_table.page(b_, position) * strides.outer +
                     slot * strides.slot + h_ * strides.head;
      for (std::int64_t i = 0; i < run; ++i) *rows++ = row + i * strides.slot;
      position += run;
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

/// out and lse of one query row from the partial results of its chunks.
template <class T>
void merge_row(const BranchAttentionParams& p, const Workspace& workspace, std::int64_t b,
               std::int64_t h, std::int64_t r, std::int64_t chunks) {
  const WorkspaceLayout& layout = workspace.layout();
  const std::int64_t head = b * p.num_kv_heads + h;
  float max_score = kMinusInfinity;
  for (std::int64_t c = 0; c < chunks; ++c) {
    max_score = std::max(max_score, workspace.partial(head, c).states[r].max);
  }
  const float base = max_score == kMinusInfinity ? 0.0f : max_score;
  float shares[kMaxChunks];
  float total = 0.0f;
  for (std::int64_t c = 0; c < chunks; ++c) {
    const RowState& state = workspace.partial(head, c).states[r];
    shares[c] = std::exp(state.max - base);
    total += shares[c] * state.sum;
  }

  const std::int64_t row = r / layout.group_size;
  const std::int64_t qo_head = h * layout.group_size + r % layout.group_size;
  T* out = static_cast<T*>(p.out) + b * p.out_strides.batch + row * p.out_strides.row +
           qo_head * p.out_strides.head;
  const Vec scale(total == 0.0f ? 0.0f : 1.0f / total);  // 0: the row sees nothing
  for (std::int64_t d = 0; d < p.head_dim; d += kLanes) {
    Vec sum(0.0f);
    for (std::int64_t c = 0; c < chunks; ++c) {
      const float* part = workspace.partial(head, c).out + r * layout.padded_dim + d;
      sum = at::vec::fmadd(Vec(shares[c]), load(part), sum);
    }
    store(out + d, sum * scale, std::min<std::int64_t>(kLanes, p.head_dim - d));
  }
  p.lse[b * p.lse_strides.batch + row * p.lse_strides.row + qo_head * p.lse_strides.head] =
      base + std::log(total);
}

template <class T>
void attend_chunk(const BranchAttentionParams& p, const Workspace& workspace, std::int64_t b,
                  std::int64_t h, std::int64_t chunk) {
  const RequestKeys keys(p, b);
  const std::int64_t chunks = num_chunks(keys.num_tiles());
  if (chunk >= chunks) return;
  const std::int64_t head = b * p.num_kv_heads + h;
  ChunkAttention<T> attention(p, workspace.layout(), keys, b, h, workspace.queries(head),
                              workspace.partial(head, chunk));
  const std::int64_t end = (chunk + 1) * keys.num_tiles() / chunks;
  for (std::int64_t tile = chunk * keys.num_tiles() / chunks; tile < end; ++tile) {
    attention.add(keys.tile(tile));
  }
}

template <class T>
void attend(const BranchAttentionParams& p) {
  const Workspace workspace(p);
  const std::int64_t rows = workspace.layout().rows;
  const std::int64_t num_heads = p.batch_size * p.num_kv_heads;
  const std::int64_t row_products = 2 * p.head_dim;  // of one row with one key and its value
  const auto grain = [](std::int64_t products) { return 1 + kProductsWorthAThread / products; };

  parallel_for(0, num_heads, grain(rows * p.head_dim), [&](std::int64_t lo, std::int64_t hi) {
    for (std::int64_t head = lo; head < hi; ++head) {
      pack_queries<T>(p, workspace.layout(), head / p.num_kv_heads, head % p.num_kv_heads,
                      workspace.queries(head));
    }
  });

  std::int64_t total_tiles = 0;
  std::int64_t max_chunks = 0;
  for (std::int64_t b = 0; b < p.batch_size; ++b) {
    const std::int64_t tiles = RequestKeys(p, b).num_tiles();
    total_tiles += tiles;
    max_chunks = std::max(max_chunks, num_chunks(tiles));
  }
  const std::int64_t products = total_tiles * kTileKeys * p.num_kv_heads * rows * row_products;
  for_each_item(num_heads * max_chunks, 1 + products / kProductsWorthAThread,
                [&](std::int64_t item) {
                  const std::int64_t h = item % p.num_kv_heads;
                  const std::int64_t chunk = item / p.num_kv_heads % max_chunks;
                  attend_chunk<T>(p, workspace, item / p.num_kv_heads / max_chunks, h, chunk);
                });

  parallel_for(0, num_heads * rows, grain(max_chunks * p.head_dim),
               [&](std::int64_t lo, std::int64_t hi) {
                 for (std::int64_t i = lo; i < hi; ++i) {
                   const std::int64_t b = i / rows / p.num_kv_heads;
                   merge_row<T>(p, workspace, b, i / rows % p.num_kv_heads, i % rows,
                                num_chunks(RequestKeys(p, b).num_tiles()));
                 }
               });
}

}  // namespace

void branch_attention(const BranchAttentionParams& p) {
  dispatch_dtype(p.dtype, [&]<class T>(T) { attend<T>(p); });
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
