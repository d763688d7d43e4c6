// append_kv_ with neighbouring lanes 64 bytes apart: what the limits on traffic are for.

#include "bind.hpp"
#include "common/cuda/launch.cuh"
#include "kv_cache/cuda/append_kv.cuh"

namespace {

using namespace specbranch;

/// Grid [T]; a token has as many columns as the block has threads.
__global__ void scattered_append_kernel(const __grid_constant__ AppendKvParams p) {
  const unsigned warps = blockDim.x / 32;
  const unsigned column = threadIdx.x % 32 * warps + threadIdx.x / 32;
  append_column<uint4>(p, blockIdx.x, column);
}

void launch_scattered_append(const AppendKvParams& p, CudaStream stream) {
  const std::int64_t columns =
      num_columns(p.num_kv_heads, p.head_dim * p.element_size, sizeof(uint4));
  const dim3 grid(p.num_rows);
  launch_kernel("", scattered_append_kernel, {grid, dim3(columns)}, stream, p);
}

}  // namespace

SIMT_LAUNCHER(scattered_append, AppendKvParams, launch_scattered_append)
