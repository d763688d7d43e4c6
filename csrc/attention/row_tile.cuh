#pragma once

#include <cstdint>

#include "attention/split_plan.h"
#include "common/cuda_prims.cuh"

namespace specbranch {

/// The query rows of a block: [begin, begin + count) of those that share a KV head. The i-th of
/// these is query row i / group_size under the i % group_size-th query head of the KV head.
struct RowTile {
  int b;
  int kv_head;
  int group_size;
  int begin;
  int count;

  __device__ explicit RowTile(const BranchAttentionLaunch& launch)
      : b(blockIdx.z / static_cast<int>(launch.params.num_kv_heads)),
        kv_head(blockIdx.z % static_cast<int>(launch.params.num_kv_heads)),
        group_size(launch.plan.group_size),
        begin(blockIdx.x * launch.plan.tile.rows),
        count(min(launch.plan.tile.rows, launch.plan.num_rows - begin)) {}

  __device__ int query_row(int r) const { return (begin + r) / group_size; }

  __device__ std::int64_t offset(int r, const RowStrides& strides) const {
    const int head = kv_head * group_size + (begin + r) % group_size;
    return b * strides.batch + query_row(r) * strides.row + head * strides.head;
  }
};

}  // namespace specbranch
