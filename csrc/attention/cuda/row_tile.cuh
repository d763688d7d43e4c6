#pragma once

#include <cstdint>

#include "attention/split_plan.h"
#include "common/cuda/prims.cuh"
#include "common/ragged_rows.h"

namespace specbranch {

/// The query rows of a block: [begin, begin + count) of those that share a KV head, all of request
/// b; count may be 0 or less. The i-th of the rows of a KV head is query row i / group_size under
/// the i % group_size-th of its query heads.
///
/// The row tiles of request b are blockIdx.x from row_indptr[b] * group_size / tile.rows + b on.
/// These numbers increase by as many tiles as a request has, or more, so no two tiles share one.
struct RowTile {
  int b;
  int kv_head;
  int group_size;
  int begin;
  int count;

  __device__ explicit RowTile(const BranchAttentionLaunch& launch)
      : kv_head(blockIdx.z), group_size(launch.plan.group_size) {
    const std::int32_t* row_indptr = launch.params.row_indptr;
    const int tile_rows = launch.plan.tile.rows;
    const int index = blockIdx.x;
    const auto first_tile = [&](int request) {
      return row_indptr[request] * group_size / tile_rows + request;
    };
    b = last_where(static_cast<int>(launch.params.batch_size),
                   [&](int request) { return first_tile(request) <= index; });
    begin = row_indptr[b] * group_size + (index - first_tile(b)) * tile_rows;
    count = min(tile_rows, row_indptr[b + 1] * group_size - begin);
  }

  __device__ int query_row(int r) const { return (begin + r) / group_size; }

  __device__ std::int64_t offset(int r, const RowStrides& strides) const {
    const int head = kv_head * group_size + (begin + r) % group_size;
    return query_row(r) * strides.row + head * strides.head;
  }
};

}  // namespace specbranch
