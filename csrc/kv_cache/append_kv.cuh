#pragma once

#include <cstdint>

#include "common/cuda_prims.cuh"
#include "kv_cache/columns.h"
#include "kv_cache/params.h"

namespace specbranch {

template <class Column>
__device__ void append_column(const AppendKvParams& p, const void* source,
                              const KvStrides& source_strides, void* cache,
                              const KvStrides& cache_strides, std::int64_t b, std::int64_t t,
                              std::int64_t column) {
  const std::int64_t head_bytes = p.head_dim * p.element_size;
  const std::int64_t from =
      (b * source_strides.outer + t * source_strides.slot) * p.element_size +
      column_offset(column, head_bytes, sizeof(Column), source_strides, p.element_size);
  const std::int64_t to =
      p.block_table.offset(b, p.start[b] + t, cache_strides) * p.element_size +
      column_offset(column, head_bytes, sizeof(Column), cache_strides, p.element_size);
  *reinterpret_cast<Column*>(static_cast<char*>(cache) + to) =
      *reinterpret_cast<const Column*>(static_cast<const char*>(source) + from);
}

/// A thread copies one column of one token's key and value. Grid [T, ceil(columns / threads), B].
template <class Column>
__global__ void append_kv_kernel(const __grid_constant__ AppendKvParams p) {
  const std::int64_t t = blockIdx.x;
  const std::int64_t column = std::int64_t{blockIdx.y} * blockDim.x + threadIdx.x;
  const std::int64_t b = blockIdx.z;
  if (t >= p.n_tokens[b]) return;
  if (column >= num_columns(p.num_kv_heads, p.head_dim * p.element_size, sizeof(Column))) return;
  append_column<Column>(p, p.k, p.k_strides, p.k_cache, p.k_cache_strides, b, t, column);
  append_column<Column>(p, p.v, p.v_strides, p.v_cache, p.v_cache_strides, b, t, column);
}

}  // namespace specbranch
