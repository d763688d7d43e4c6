#include <cstdint>
#include <cstring>

#include "common/cpu_kernels.h"
#include "common/parallel.h"
#include "kv_cache/params.h"

namespace specbranch::SPECBRANCH_CPU_NS {
namespace {

constexpr std::int64_t kBytesWorthAThread = 1 << 16;

struct Copy {
  const char* source;
  char* destination;
  KvStrides source_strides;
  KvStrides destination_strides;
};

void append_token(const AppendKvParams& p, const Copy& copy, std::int64_t b, std::int64_t t) {
  const std::int64_t from = b * copy.source_strides.outer + t * copy.source_strides.slot;
  const std::int64_t to = p.block_table.offset(b, p.start[b] + t, copy.destination_strides);
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
  parallel_for(0, p.batch_size * p.max_tokens, grain, [&](std::int64_t lo, std::int64_t hi) {
    for (std::int64_t i = lo; i < hi; ++i) {
      const std::int64_t b = i / p.max_tokens;
      const std::int64_t t = i % p.max_tokens;
      if (t >= p.n_tokens[b]) continue;
      append_token(p, keys, b, t);
      append_token(p, values, b, t);
    }
  });
}

}  // namespace specbranch::SPECBRANCH_CPU_NS
