#include <cstdint>
#include <cstring>

#include "common/cpu/kernels.h"
#include "common/cpu/parallel.h"
#include "common/ragged_rows.h"
#include "kv_cache/params.h"

namespace specbranch::SPECBRANCH_CPU_NS {
namespace {

constexpr std::int64_t kBytesWorthAThread = 1 << 16;

struct Copy {
  const char* source;
  char* destination;
  RowStrides source_strides;
  KvStrides destination_strides;
};

void append_row(const AppendKvParams& p, const Copy& copy, std::int64_t b, std::int64_t row) {
  const std::int64_t position = p.start[b] + row - p.row_indptr[b];
  const std::int64_t from = row * copy.source_strides.row;
  const std::int64_t to = p.block_table.offset(b, position, copy.destination_strides);
  for (std::int64_t h = 0; h < p.num_kv_heads; ++h) {
    std::memcpy(copy.destination + (to + h * copy.destination_strides.head) * p.element_size,
                copy.source + (from + h * copy.source_strides.head) * p.element_size,
                p.head_dim * p.element_size);
  }
}

}  // namespace

void append_kv(const AppendKvParams& p) {
  const Copy keys{static_cast<const char*>(p.k), static_cast<char*>(p.k_cache), p.k_strides,
                  p.k_cache_strides};
  const Copy values{static_cast<const char*>(p.v), static_cast<char*>(p.v_cache), p.v_strides,
                    p.v_cache_strides};
  const std::int64_t token_bytes = 2 * p.num_kv_heads * p.head_dim * p.element_size;
  if (token_bytes == 0) return;
  const std::int64_t grain = 1 + kBytesWorthAThread / token_bytes;
  parallel_for(0, p.row_indptr[p.batch_size], grain, [&](std::int64_t lo, std::int64_t hi) {
    for (std::int64_t row = lo; row < hi; ++row) {
      const int b = request_of(p.row_indptr, static_cast<int>(p.batch_size), row);
      append_row(p, keys, b, row);
      append_row(p, values, b, row);
    }
  });
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
