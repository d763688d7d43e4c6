#include "kv_cache/cuda/append_kv.cuh"

#include "common/cuda/launch.cuh"
#include "kv_cache/launch.h"

namespace specbranch {
namespace {

template <class Column>
void launch(const AppendKvParams& p, CudaStream stream) {
  const std::int64_t columns =
      num_columns(p.num_kv_heads, p.head_dim * p.element_size, sizeof(Column));
  const int threads = column_threads(columns);
  const dim3 grid(p.num_rows, (columns + threads - 1) / threads);
  launch_kernel("append_kv_", append_kv_kernel<Column>, {grid, dim3(threads)}, stream, p);
}

}  // namespace

void launch_append_kv(const AppendKvParams& p, CudaStream stream) {
  if (p.batch_size == 0 || p.num_rows == 0 || p.num_kv_heads == 0 || p.head_dim == 0) return;
  const bool wide = is_wide(p.k, p.k_strides, p.element_size) &&
                    is_wide(p.v, p.v_strides, p.element_size) &&
                    is_wide(p.k_cache, p.k_cache_strides, p.element_size) &&
                    is_wide(p.v_cache, p.v_cache_strides, p.element_size) &&
                    p.head_dim * p.element_size % kWideColumn == 0;
  if (wide) {
    launch<uint4>(p, stream);
  } else {
    launch<ushort1>(p, stream);
  }
}

}  // namespace specbranch
