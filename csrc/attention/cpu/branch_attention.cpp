#include <algorithm>
#include <cmath>
#include <cstdint>

#include "attention/cpu/attention_scratch.h"
#include "attention/cpu/chunk_attention.h"
#include "attention/cpu/plan.h"
#include "attention/cpu/request_keys.h"
#include "attention/params.h"
#include "common/cpu/kernels.h"
#include "common/cpu/parallel.h"
#include "common/cpu/vec.h"
#include "common/cpu/work_queue.h"
#include "common/ragged_rows.h"

// Flash-decoding on a CPU. A work item is a chunk of one request's keys under one KV head. All of
// the request's query rows that share the head are scored against a tile of keys while it lies in
// the innermost caches, so the context is read from memory once. A thread takes items in runs and
// walks a chunk under several heads together, in the order in which a cache holds them. Items leave
// partial results, which a last pass merges in the order of the chunks.
namespace specbranch::SPECBRANCH_CPU_NS {
namespace {

// Below these a further thread costs more than it saves.
constexpr std::int64_t kProductsWorthAThread = 1 << 19;
constexpr std::int64_t kElementsWorthAThread = 1 << 15;

std::int64_t end_row(const BranchAttentionParams& p) { return p.row_indptr[p.batch_size]; }

/// Query row r of KV head h as fp32, scaled. Scores are in base 2, but a cap is on natural ones.
template <class T>
void pack_query(const BranchAttentionParams& p, const ScratchLayout& layout, std::int64_t h,
                std::int64_t r, float* packed) {
  const Vec scale(p.softcap > 0 ? p.scale : p.scale * kLog2E);
  const std::int64_t head = h * layout.group_size + r % layout.group_size;
  const T* query = static_cast<const T*>(p.q) + r / layout.group_size * p.q_strides.row +
                   head * p.q_strides.head;
  for (std::int64_t d = 0; d < p.head_dim; d += kLanes) {
    const std::int64_t width = std::min<std::int64_t>(kLanes, p.head_dim - d);
    store(packed + d, load(query + d, width) * scale);
  }
}

/// Calls f(h, r) for the rows r of all requests under each KV head h, `elements` of work each.
template <class F>
void for_each_row(const BranchAttentionParams& p, const ScratchLayout& layout,
                  std::int64_t elements, const F& f) {
  const std::int64_t rows = end_row(p) * layout.group_size;
  const std::int64_t grain = 1 + kElementsWorthAThread / elements;
  parallel_for(0, p.num_kv_heads * rows, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) f(i / rows, i % rows);
  });
}

template <class T>
void pack_queries(const BranchAttentionParams& p, const AttentionScratch& workspace) {
  const ScratchLayout& layout = workspace.layout();
  for_each_row(p, layout, p.head_dim, [&](std::int64_t h, std::int64_t r) {
    pack_query<T>(p, layout, h, r, workspace.queries(h) + r * layout.padded_dim);
  });
}

/// Numbers the chunks of all requests. Returns the largest number of chunks of a request.
std::int64_t number_chunks(const BranchAttentionParams& p, std::int32_t* chunk_indptr) {
  std::int64_t most = 0;
  chunk_indptr[0] = 0;
  for (std::int64_t b = 0; b < p.batch_size; ++b) {
    const RequestKeys keys(p, b);
    const bool has_rows = keys.first_row() < keys.end_row();
    const std::int64_t chunks =
        has_rows ? num_chunks(keys.num_keys()) - keys.first_tile() / kChunkTiles : 0;
    chunk_indptr[b + 1] = chunk_indptr[b] + static_cast<std::int32_t>(chunks);
    most = std::max(most, chunks);
  }
  return most;
}

std::int64_t num_products(const BranchAttentionParams& p) {
  std::int64_t row_tiles = 0;
  for (std::int64_t b = 0; b < p.batch_size; ++b) {
    const RequestKeys keys(p, b);
    row_tiles += (keys.end_row() - keys.first_row()) * (keys.end_tile() - keys.first_tile());
  }
  return row_tiles * kTileKeys * p.num_qo_heads * 2 * p.head_dim;
}

template <class T>
void attend_chunk(const BranchAttentionParams& p, const AttentionScratch& workspace,
                  std::int64_t number, std::int64_t first_head, std::int64_t end_head) {
  const std::int32_t* chunk_indptr = workspace.chunk_indptr();
  const int b = request_of(chunk_indptr, static_cast<int>(p.batch_size), number);
  const RequestKeys keys(p, b);
  const std::int64_t index = number - chunk_indptr[b];
  const std::int64_t first_tile = (keys.first_tile() / kChunkTiles + index) * kChunkTiles;
  const Chunk chunk{b, index, std::max(first_tile, keys.first_tile()),
                    std::min(first_tile + kChunkTiles, keys.end_tile())};
  ChunkAttention<T>(p, workspace, keys, chunk, first_head, end_head).run();
}

/// Items are numbered chunk * num_kv_heads + h. Those of one chunk are attended together.
template <class T>
void attend_items(const BranchAttentionParams& p, const AttentionScratch& workspace,
                  std::int64_t begin, std::int64_t end) {
  while (begin < end) {
    const std::int64_t first_head = begin % p.num_kv_heads;
    const std::int64_t end_head = std::min(first_head + end - begin, p.num_kv_heads);
    attend_chunk<T>(p, workspace, begin / p.num_kv_heads, first_head, end_head);
    begin += end_head - first_head;
  }
}

template <class T>
void attend_chunks(const BranchAttentionParams& p, const AttentionScratch& workspace) {
  const std::int32_t* chunk_indptr = workspace.chunk_indptr();
  for_each_run(
      chunk_indptr[p.batch_size] * p.num_kv_heads, p.num_kv_heads,
      1 + num_products(p) / kProductsWorthAThread,
      [&](std::int64_t begin, std::int64_t end) { attend_items<T>(p, workspace, begin, end); });
}

/// out and lse of row r of KV head h from the partial results of its chunks.
template <class T>
void merge_row(const BranchAttentionParams& p, const AttentionScratch& workspace, std::int64_t h,
               std::int64_t r, std::int64_t chunks) {
  const ScratchLayout& layout = workspace.layout();
  float base = kLowest;
  for (std::int64_t c = 0; c < chunks; ++c) {
    base = std::max(base, workspace.partial(h, c).states[r].base);
  }
  alignas(64) float sums[kMaxHeadDim] = {};
  float total = 0.0f;
  for (std::int64_t c = 0; c < chunks; ++c) {
    const Partial partial = workspace.partial(h, c);
    const float share = std::exp2(partial.states[r].base - base);
    const float* out = partial.out + r * layout.padded_dim;
    total += share * partial.states[r].sum;
    for (std::int64_t d = 0; d < p.head_dim; d += kLanes) {
      store(sums + d, at::vec::fmadd(Vec(share), load(out + d), load(sums + d)));
    }
  }

  const std::int64_t row = r / layout.group_size;
  const std::int64_t qo_head = h * layout.group_size + r % layout.group_size;
  T* out = static_cast<T*>(p.out) + row * p.out_strides.row + qo_head * p.out_strides.head;
  const Vec scale(total == 0.0f ? 0.0f : 1.0f / total);  // 0: the row sees nothing
  for (std::int64_t d = 0; d < p.head_dim; d += kLanes) {
    store(out + d, load(sums + d) * scale, std::min<std::int64_t>(kLanes, p.head_dim - d));
  }
  p.lse[row * p.lse_strides.row + qo_head * p.lse_strides.head] =
      (base + std::log2(total)) / kLog2E;
}

template <class T>
void merge_rows(const BranchAttentionParams& p, const AttentionScratch& workspace,
                std::int64_t max_chunks) {
  const ScratchLayout& layout = workspace.layout();
  const std::int32_t* chunk_indptr = workspace.chunk_indptr();
  for_each_row(p, layout, max_chunks * p.head_dim, [&](std::int64_t h, std::int64_t r) {
    const int b = request_of(p.row_indptr, static_cast<int>(p.batch_size), r / layout.group_size);
    merge_row<T>(p, workspace, h, r, chunk_indptr[b + 1] - chunk_indptr[b]);
  });
}

}  // namespace

void branch_attention(const BranchAttentionParams& p) {
  if (end_row(p) == 0 || p.num_qo_heads == 0) return;
  dispatch_dtype(p.dtype, [&]<class T>(T) {
    const AttentionScratch workspace(p);
    const std::int64_t max_chunks = number_chunks(p, workspace.chunk_indptr());
    pack_queries<T>(p, workspace);
    attend_chunks<T>(p, workspace);
    merge_rows<T>(p, workspace, max_chunks);
  });
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
