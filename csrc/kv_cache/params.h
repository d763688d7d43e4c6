#pragma once

#include <cstdint>

#include "kv_cache/layout.h"

namespace specbranch {

/// append_kv_: of k, v [T, Hkv, D], rows row_indptr[b] to row_indptr[b + 1] go to the positions of
/// request b from start[b] on.
struct AppendKvParams {
  const void* k;
  const void* v;
  void* k_cache;
  void* v_cache;
  RowStrides k_strides;
  RowStrides v_strides;
  KvStrides k_cache_strides;
  KvStrides v_cache_strides;
  BlockTable block_table;
  const std::int32_t* start;       // [B]
  const std::int32_t* row_indptr;  // [B + 1]
  std::int64_t batch_size;
  std::int64_t num_rows;  // T
  std::int64_t num_kv_heads;
  std::int64_t head_dim;
  std::int64_t element_size;  // bytes
};

/// Layers that one compact_kv_ call may move: their pointers travel as kernel arguments.
inline constexpr std::int64_t kMaxLayers = 240;

/// compact_kv_: position context_lens[b] + keep[b, i] moves to context_lens[b] + i, in the caches
/// of all layers. keep[b, :keep_lens[b]] is strictly increasing, so no move passes its source.
struct CompactKvParams {
  void* k_caches[kMaxLayers];
  void* v_caches[kMaxLayers];
  KvStrides k_strides;
  KvStrides v_strides;
  BlockTable block_table;
  const std::int32_t* context_lens;  // [B]
  const std::int32_t* keep;          // [B, J]
  const std::int32_t* keep_lens;     // [B]
  std::int64_t keep_stride;
  std::int64_t num_layers;
  std::int64_t batch_size;
  std::int64_t max_keep;
  std::int64_t num_kv_heads;
  std::int64_t head_dim;
  std::int64_t element_size;  // bytes
};
static_assert(sizeof(CompactKvParams) <= 4096);  // what any driver takes as arguments

}  // namespace specbranch
