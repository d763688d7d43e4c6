#include "forward/cuda/gated_activation.cuh"

#include <cstdint>

#include "common/cuda/launch.cuh"
#include "forward/launch.h"

namespace specbranch {
namespace {

template <Activation kActivation>
void launch(const GatedActivationParams& p, bool wide, CudaStream stream) {
  dispatch_access(p.dtype, wide, [&]<class T, int kCount>(T, std::integral_constant<int, kCount>) {
    const std::int64_t columns = kGateThreads * kCount;
    const dim3 grid(p.num_rows, (p.width + columns - 1) / columns);
    launch_kernel("gated_activation", gated_activation_kernel<T, kCount, kActivation>,
                  {grid, dim3(kGateThreads)}, stream, p);
  });
}

}  // namespace

void launch_gated_activation(const GatedActivationParams& p, CudaStream stream) {
  if (p.num_rows == 0 || p.width == 0) return;
  const bool wide = is_wide(address(p.gate_up) | address(p.out)) &&
                    is_wide((p.gate_up_stride | p.out_stride | p.width) *
                            static_cast<std::int64_t>(size_of(p.dtype)));
  switch (p.activation) {
    case Activation::kSilu:
      return launch<Activation::kSilu>(p, wide, stream);
    case Activation::kGeluTanh:
      return launch<Activation::kGeluTanh>(p, wide, stream);
  }
}

}  // namespace specbranch
