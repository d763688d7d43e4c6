#include <cstdint>

#include "common/cpu/kernels.h"
#include "common/cpu/parallel.h"
#include "kv_cache/cpu/append_row.h"
#include "kv_cache/params.h"

namespace specbranch::SPECBRANCH_CPU_NS {
namespace {

constexpr std::int64_t kBytesWorthAThread = 1 << 16;

}  // namespace

void append_kv(const AppendKvParams& p) {
  const std::int64_t token_bytes = 2 * p.num_kv_heads * p.head_dim * p.element_size;
  if (token_bytes == 0) return;
  const std::int64_t grain = 1 + kBytesWorthAThread / token_bytes;
  parallel_for(0, p.row_indptr[p.batch_size], grain, [&](std::int64_t lo, std::int64_t hi) {
    for (std::int64_t row = lo; row < hi; ++row) {
      const CachePlace place(p, row);
      append_row(p, place, row, keys_of(p));
      append_row(p, place, row, values_of(p));
    }
  });
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
