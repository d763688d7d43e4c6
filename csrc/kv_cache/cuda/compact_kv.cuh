#pragma once

#include <cstdint>

#include "common/cuda/prims.cuh"
#include "kv_cache/cuda/columns.h"
#include "kv_cache/params.h"

namespace specbranch {

/// Tokens that a thread holds in registers between reading and writing them.
inline constexpr int kCompactBatch = 8;

/// Compacts one column of one request in one cache. Nobody else touches the column, and each batch
/// is read before any of it is written; as destinations ascend and never pass their sources, no
/// write hits a source that is still to be read.
template <class Column>
__device__ void compact_column(const CompactKvParams& p, char* cache, const KvStrides& strides,
                               std::int64_t b) {
  const std::int32_t* keep = p.keep + b * p.keep_stride;
  const std::int64_t context = p.context_lens[b];
  const std::int64_t count = p.keep_lens[b];
  const auto at = [&](std::int64_t node) {
    const std::int64_t offset = p.block_table.offset(b, context + node, strides);
    return reinterpret_cast<Column*>(cache + offset * p.element_size);
  };
  std::int64_t first = 0;
  while (first < count && keep[first] == first) ++first;  // already in place

  for (; first < count; first += kCompactBatch) {
    Column batch[kCompactBatch];
#pragma unroll
    for (int i = 0; i < kCompactBatch; ++i) {
      if (first + i < count) batch[i] = *at(keep[first + i]);
    }
#pragma unroll
    for (int i = 0; i < kCompactBatch; ++i) {
      if (first + i < count) *at(first + i) = batch[i];
    }
  }
}

/// Grid [ceil(columns / threads), B, 2 * layers]: even planes are keys, odd ones values.
template <class Column>
__global__ void compact_kv_kernel(const __grid_constant__ CompactKvParams p) {
  const std::int64_t head_bytes = p.head_dim * p.element_size;
  const std::int64_t column = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (column >= num_columns(p.num_kv_heads, head_bytes, sizeof(Column))) return;
  const std::int64_t layer = blockIdx.z / 2;
  const bool is_key = blockIdx.z % 2 == 0;
  const KvStrides& strides = is_key ? p.k_strides : p.v_strides;
  void* cache = is_key ? p.k_caches[layer] : p.v_caches[layer];
  const std::int64_t offset =
      column_offset(column, head_bytes, sizeof(Column), strides.head, p.element_size);
  compact_column<Column>(p, static_cast<char*>(cache) + offset, strides, blockIdx.y);
}

}  // namespace specbranch
