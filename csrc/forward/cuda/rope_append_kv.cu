#include "forward/cuda/rope_append_kv.cuh"

#include <cstdint>

#include "common/cuda/launch.cuh"
#include "forward/launch.h"

namespace specbranch {
namespace {

bool moves_wide(const RopeAppendKvParams& p) {
  const AppendKvParams& a = p.append;
  const std::int64_t elements = p.q_strides.bits() | a.k_strides.bits() | a.v_strides.bits() |
                                a.k_cache_strides.bits() | a.v_cache_strides.bits() | a.head_dim;
  return is_wide(address(p.q) | address(a.k) | address(a.v) | address(a.k_cache) |
                 address(a.v_cache) | address(p.q_norm.weight) | address(p.k_norm.weight)) &&
         is_wide(elements * a.element_size);
}

}  // namespace

void launch_rope_append_kv(const RopeAppendKvParams& p, CudaStream stream) {
  const std::int64_t heads = p.num_qo_heads + 2 * p.append.num_kv_heads;
  if (p.append.batch_size == 0 || p.append.num_rows == 0 || heads == 0) return;
  dispatch_access(p.dtype, moves_wide(p),
                  [&]<class T, int kCount>(T, std::integral_constant<int, kCount>) {
                    const dim3 grid(p.append.num_rows, (heads + kHeadWarps - 1) / kHeadWarps);
                    launch_kernel("rope_append_kv_", rope_append_kv_kernel<T, kCount>,
                                  {grid, dim3(kHeadWarps * kWarpThreads)}, stream, p);
                  });
}

}  // namespace specbranch
