#include "kv_cache/cuda/compact_kv.cuh"

#include "common/cuda/launch.cuh"
#include "kv_cache/launch.h"

namespace specbranch {
namespace {

bool all_wide(const CompactKvParams& p) {
  bool wide = p.head_dim * p.element_size % kWideColumn == 0;
  for (std::int64_t layer = 0; layer < p.num_layers; ++layer) {
    wide = wide && is_wide(p.k_caches[layer], p.k_strides, p.element_size) &&
           is_wide(p.v_caches[layer], p.v_strides, p.element_size);
  }
  return wide;
}

template <class Column>
void launch(const CompactKvParams& p, CudaStream stream) {
  const std::int64_t columns =
      num_columns(p.num_kv_heads, p.head_dim * p.element_size, sizeof(Column));
  const int threads = column_threads(columns);
  const dim3 grid((columns + threads - 1) / threads, p.batch_size, 2 * p.num_layers);
  launch_kernel("compact_kv_", compact_kv_kernel<Column>, {grid, dim3(threads)}, stream, p);
}

}  // namespace

void launch_compact_kv(const CompactKvParams& p, CudaStream stream) {
  if (p.batch_size == 0 || p.max_keep == 0 || p.num_kv_heads == 0 || p.head_dim == 0) return;
  if (all_wide(p)) {
    launch<uint4>(p, stream);
  } else {
    launch<ushort1>(p, stream);
  }
}

}  // namespace specbranch
