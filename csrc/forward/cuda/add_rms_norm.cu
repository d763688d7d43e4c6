#include "forward/cuda/add_rms_norm.cuh"

#include <algorithm>
#include <cstdint>

#include "common/cuda/launch.cuh"
#include "forward/launch.h"

namespace specbranch {

void launch_add_rms_norm(const AddRmsNormParams& p, CudaStream stream) {
  if (p.num_rows == 0 || p.width == 0) return;
  const bool wide =
      is_wide(address(p.x) | address(p.residual) | address(p.out) | address(p.norm.weight)) &&
      is_wide((p.x_stride | p.residual_stride | p.out_stride | p.width) *
              static_cast<std::int64_t>(size_of(p.dtype)));
  dispatch_access(p.dtype, wide, [&]<class T, int kCount>(T, std::integral_constant<int, kCount>) {
    const std::int64_t warps = (p.width + kCount * kWarpThreads - 1) / (kCount * kWarpThreads);
    const int threads = std::min<std::int64_t>(warps * kWarpThreads, kMostNormThreads);
    launch_kernel("add_rms_norm", add_rms_norm_kernel<T, kCount>, {dim3(p.num_rows), dim3(threads)},
                  stream, p);
  });
}

}  // namespace specbranch
