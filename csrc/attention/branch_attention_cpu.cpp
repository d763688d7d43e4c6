#include <algorithm>
#include <cmath>
#include <cstdint>

#include "attention/attention_scratch.h"
#include "attention/chunk_attention.h"
#include "attention/params.h"
#include "attention/plan.h"
#include "attention/request_keys.h"
#include "common/cpu_kernels.h"
#include "common/parallel.h"
#include "common/vec.h"
#include "common/work_queue.h"

// Flash-decoding on a CPU. A work item is a chunk of one request's keys under one KV head. All
// query rows that share the head (Q * group size) are scored against a tile of keys while it lies
// in the innermost caches, so the context is read from memory once. A thread takes items in runs
// and walks a chunk under several heads together, in the order in which a cache holds them. Items
// leave partial results, which a last pass merges in the order of the chunks.
namespace specbranch::SPECBRANCH_CPU_NS {
namespace {

// Below these a further thread costs more than it saves.
constexpr std::int64_t kProductsWorthAThread = 1 << 19;
constexpr std::int64_t kElementsWorthAThread = 1 << 15;

/// The query rows of one KV head as fp32, scaled: [Q, group] rows of padded_dim floats. Scores are
/// in base 2, but a cap is on natural ones.
template <class T>
void pack_queries(const BranchAttentionParams& p, const ScratchLayout& layout, std::int64_t b,
                  std::int64_t h, float* queries) {
  const Vec scale(p.softcap > 0 ? p.scale : p.scale * kLog2E);
  for (std::int64_t r = 0; r < layout.rows; ++r) {
    const std::int64_t head = h * layout.group_size + r % layout.group_size;
    const T* query = static_cast<const T*>(p.q) + b * p.q_strides.batch +
                     r / layout.group_size * p.q_strides.row + head * p.q_strides.head;
    for (std::int64_t d = 0; d < p.head_dim; d += kLanes) {
      const std::int64_t width = std::min<std::int64_t>(kLanes, p.head_dim - d);
      store(queries + r * layout.padded_dim + d, load(query + d, width) * scale);
    }
  }
}

/// out and lse of one query row from the partial results of its chunks.
template <class T>
void merge_row(const BranchAttentionParams& p, const AttentionScratch& workspace, std::int64_t b,
               std::int64_t h, std::int64_t r, std::int64_t chunks) {
  const ScratchLayout& layout = workspace.layout();
  float base = kLowest;
  for (std::int64_t c = 0; c < chunks; ++c) {
    base = std::max(base, workspace.partial(b, h, c).states[r].base);
  }
  float shares[kMaxChunks];
  float total = 0.0f;
  for (std::int64_t c = 0; c < chunks; ++c) {
    const RowState& state = workspace.partial(b, h, c).states[r];
    shares[c] = std::exp2(state.base - base);
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
      const float* part = workspace.partial(b, h, c).out + r * layout.padded_dim + d;
      sum = at::vec::fmadd(Vec(shares[c]), load(part), sum);
    }
    store(out + d, sum * scale, std::min<std::int64_t>(kLanes, p.head_dim - d));
  }
  p.lse[b * p.lse_strides.batch + row * p.lse_strides.row + qo_head * p.lse_strides.head] =
      (base + std::log2(total)) / kLog2E;
}

/// Rows are numbered (b * num_kv_heads + h) * rows + r. Those of one request are merged together:
/// behind a window, the number of its chunks takes a look at the mask of every row.
template <class T>
void merge_rows(const BranchAttentionParams& p, const AttentionScratch& workspace,
                std::int64_t begin, std::int64_t end) {
  const std::int64_t rows = workspace.layout().rows;
  while (begin < end) {
    const std::int64_t b = begin / rows / p.num_kv_heads;
    const std::int64_t end_of_request = std::min((b + 1) * p.num_kv_heads * rows, end);
    const std::int64_t chunks = num_chunks(RequestKeys(p, b).num_tiles());
    for (; begin < end_of_request; ++begin) {
      merge_row<T>(p, workspace, b, begin / rows % p.num_kv_heads, begin % rows, chunks);
    }
  }
}

template <class T>
void attend_chunk(const BranchAttentionParams& p, const AttentionScratch& workspace, std::int64_t b,
                  std::int64_t index, std::int64_t first_head, std::int64_t end_head) {
  const RequestKeys keys(p, b);
  const std::int64_t tiles = keys.num_tiles();
  const std::int64_t chunks = num_chunks(tiles);
  if (index >= chunks) return;
  const Chunk chunk{b, index, index * tiles / chunks, (index + 1) * tiles / chunks};
  ChunkAttention<T>(p, workspace, keys, chunk, first_head, end_head).run();
}

/// Items are numbered (b * max_chunks + chunk) * num_kv_heads + h. Those of one chunk are attended
/// together.
template <class T>
void attend_items(const BranchAttentionParams& p, const AttentionScratch& workspace,
                  std::int64_t max_chunks, std::int64_t begin, std::int64_t end) {
  while (begin < end) {
    const std::int64_t item = begin / p.num_kv_heads;
    const std::int64_t first_head = begin % p.num_kv_heads;
    const std::int64_t end_head = std::min(first_head + end - begin, p.num_kv_heads);
    attend_chunk<T>(p, workspace, item / max_chunks, item % max_chunks, first_head, end_head);
    begin += end_head - first_head;
  }
}

std::int64_t grain_of(std::int64_t elements) { return 1 + kElementsWorthAThread / elements; }

template <class T>
void pack_all_queries(const BranchAttentionParams& p, const AttentionScratch& workspace) {
  const std::int64_t grain = grain_of(workspace.layout().queries_size);
  parallel_for(0, p.batch_size * p.num_kv_heads, grain, [&](std::int64_t lo, std::int64_t hi) {
    for (std::int64_t head = lo; head < hi; ++head) {
      pack_queries<T>(p, workspace.layout(), head / p.num_kv_heads, head % p.num_kv_heads,
                      workspace.queries(head / p.num_kv_heads, head % p.num_kv_heads));
    }
  });
}

/// Returns the largest number of chunks of a request.
template <class T>
std::int64_t attend_all_chunks(const BranchAttentionParams& p, const AttentionScratch& workspace) {
  std::int64_t total_tiles = 0;
  std::int64_t max_chunks = 0;
  for (std::int64_t b = 0; b < p.batch_size; ++b) {
    const std::int64_t tiles = RequestKeys(p, b).num_tiles();
    total_tiles += tiles;
    max_chunks = std::max(max_chunks, num_chunks(tiles));
  }
  const std::int64_t products =
      total_tiles * kTileKeys * p.num_kv_heads * workspace.layout().rows * 2 * p.head_dim;
  for_each_run(p.batch_size * max_chunks * p.num_kv_heads, p.num_kv_heads,
               1 + products / kProductsWorthAThread, [&](std::int64_t begin, std::int64_t end) {
                 attend_items<T>(p, workspace, max_chunks, begin, end);
               });
  return max_chunks;
}

template <class T>
void merge_all_rows(const BranchAttentionParams& p, const AttentionScratch& workspace,
                    std::int64_t max_chunks) {
  parallel_for(
      0, p.batch_size * p.num_kv_heads * workspace.layout().rows, grain_of(max_chunks * p.head_dim),
      [&](std::int64_t begin, std::int64_t end) { merge_rows<T>(p, workspace, begin, end); });
}

}  // namespace

void branch_attention(const BranchAttentionParams& p) {
  if (p.batch_size == 0 || p.num_rows == 0 || p.num_qo_heads == 0) return;
  dispatch_dtype(p.dtype, [&]<class T>(T) {
    const AttentionScratch workspace(p);
    pack_all_queries<T>(p, workspace);
    const std::int64_t max_chunks = attend_all_chunks<T>(p, workspace);
    merge_all_rows<T>(p, workspace, max_chunks);
  });
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
