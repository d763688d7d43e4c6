#pragma once

#include <cstdint>

#include "common/cuda/prims.cuh"
#include "common/ragged_rows.h"
#include "kv_cache/cuda/columns.h"
#include "kv_cache/params.h"

namespace specbranch {

/// Copies one column of a row's key and value. All reads come before the first write, so that
/// their latencies overlap.
template <class Column>
__device__ void append_column(const AppendKvParams& p, std::int64_t row, std::int64_t column) {
  const std::int64_t head_bytes = p.head_dim * p.element_size;
  const int b = request_of(p.row_indptr, static_cast<int>(p.batch_size), row);
  const std::int64_t position = p.start[b] + row - p.row_indptr[b];
  const auto offset = [&](std::int64_t token, std::int64_t head_stride) {
    return token * p.element_size +
           column_offset(column, head_bytes, sizeof(Column), head_stride, p.element_size);
  };
  const auto source = [&](const void* data, const RowStrides& strides) {
    const std::int64_t from = offset(row * strides.row, strides.head);
    return reinterpret_cast<const Column*>(static_cast<const char*>(data) + from);
  };
  const auto place = [&](void* cache, const KvStrides& strides) {
    const std::int64_t to = offset(p.block_table.offset(b, position, strides), strides.head);
    return reinterpret_cast<Column*>(static_cast<char*>(cache) + to);
  };
  const Column* const sources[] = {source(p.k, p.k_strides), source(p.v, p.v_strides)};
  Column* const places[] = {place(p.k_cache, p.k_cache_strides),
                            place(p.v_cache, p.v_cache_strides)};
  Column columns[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) columns[i] = *sources[i];
#pragma unroll
  for (int i = 0; i < 2; ++i) *places[i] = columns[i];
}

/// A thread copies one column of one row's key and value. Grid [T, ceil(columns / threads)].
template <class Column>
__global__ void append_kv_kernel(const __grid_constant__ AppendKvParams p) {
  const std::int64_t row = blockIdx.x;
  const std::int64_t column = std::int64_t{blockIdx.y} * blockDim.x + threadIdx.x;
  if (row >= p.row_indptr[p.batch_size]) return;
  if (column >= num_columns(p.num_kv_heads, p.head_dim * p.element_size, sizeof(Column))) return;
  append_column<Column>(p, row, column);
}

}  // namespace specbranch
