#include <cstdint>
#include <cstring>
#include <vector>

#include "common/cpu/kernels.h"
#include "common/cpu/parallel.h"
#include "kv_cache/params.h"

namespace specbranch::SPECBRANCH_CPU_NS {
namespace {

constexpr std::int64_t kBytesWorthAThread = 1 << 16;

/// Where one token moves: offsets in elements, the same in every layer.
struct Move {
  std::int64_t from;
  std::int64_t to;
};

/// The moves of all requests, destinations ascending within each: no move overwrites a later
/// one's source. Tokens already in place have none.
std::vector<Move> list_moves(const CompactKvParams& p, const KvStrides& strides) {
  std::vector<Move> moves;
  for (std::int64_t b = 0; b < p.batch_size; ++b) {
    const std::int32_t* keep = p.keep + b * p.keep_stride;
    const std::int64_t context = p.context_lens[b];
    for (std::int64_t i = 0; i < p.keep_lens[b]; ++i) {
      if (keep[i] == i) continue;
      moves.push_back({p.block_table.offset(b, context + keep[i], strides),
                       p.block_table.offset(b, context + i, strides)});
    }
  }
  return moves;
}

void move_head(const CompactKvParams& p, const std::vector<Move>& moves, char* head) {
  for (const Move& move : moves) {
    std::memcpy(head + move.to * p.element_size, head + move.from * p.element_size,
                p.head_dim * p.element_size);
  }
}

}  // namespace

void compact_kv(const CompactKvParams& p) {
  const std::vector<Move> key_moves = list_moves(p, p.k_strides);
  const std::vector<Move> value_moves = list_moves(p, p.v_strides);
  if (key_moves.empty() || p.head_dim == 0) return;

  // One item is a head of a layer's keys or values: its moves stay in order on one thread.
  const std::int64_t num_key_heads = p.num_layers * p.num_kv_heads;
  const auto item_bytes = static_cast<std::int64_t>(key_moves.size()) * p.head_dim * p.element_size;
  const std::int64_t grain = 1 + kBytesWorthAThread / item_bytes;
  parallel_for(0, 2 * num_key_heads, grain, [&](std::int64_t lo, std::int64_t hi) {
    for (std::int64_t i = lo; i < hi; ++i) {
      const bool is_key = i < num_key_heads;
      const std::int64_t layer = i % num_key_heads / p.num_kv_heads;
      const std::int64_t h = i % p.num_kv_heads;
      const KvStrides& strides = is_key ? p.k_strides : p.v_strides;
      char* cache = static_cast<char*>(is_key ? p.k_caches[layer] : p.v_caches[layer]);
      move_head(p, is_key ? key_moves : value_moves, cache + h * strides.head * p.element_size);
    }
  });
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
