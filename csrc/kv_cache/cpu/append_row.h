#pragma once

#include <cstdint>
#include <cstring>

#include "common/cpu/kernels.h"
#include "common/ragged_rows.h"
#include "kv_cache/params.h"

namespace specbranch::SPECBRANCH_CPU_NS {

/// The request that a row belongs to and the logical position where it is stored.
struct CachePlace {
  CachePlace(const AppendKvParams& p, std::int64_t row)
      : b(request_of(p.row_indptr, static_cast<int>(p.batch_size), row)),
        position(p.start[b] + row - p.row_indptr[b]) {}

  std::int64_t b;
  std::int64_t position;
};

/// What append_kv_ copies to one of the caches.
struct AppendedHeads {
  const void* data;
  void* cache;
  RowStrides strides;
  KvStrides cache_strides;
};

inline AppendedHeads keys_of(const AppendKvParams& p) {
  return {p.k, p.k_cache, p.k_strides, p.k_cache_strides};
}

inline AppendedHeads values_of(const AppendKvParams& p) {
  return {p.v, p.v_cache, p.v_strides, p.v_cache_strides};
}

inline void append_row(const AppendKvParams& p, const CachePlace& place, std::int64_t row,
                       const AppendedHeads& heads) {
  const std::int64_t from = row * heads.strides.row;
  const std::int64_t to = p.block_table.offset(place.b, place.position, heads.cache_strides);
  for (std::int64_t h = 0; h < p.num_kv_heads; ++h) {
    std::memcpy(
        static_cast<char*>(heads.cache) + (to + h * heads.cache_strides.head) * p.element_size,
        static_cast<const char*>(heads.data) + (from + h * heads.strides.head) * p.element_size,
        p.head_dim * p.element_size);
  }
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
