#pragma once

#include <cstdint>

#include "common/cuda/elements.cuh"
#include "forward/params.h"

namespace specbranch {

inline constexpr int kGateThreads = 128;

/// SiLU is x times the sigmoid of x; tanh-GELU is x times that of another function of x.
template <Activation kActivation>
__device__ __forceinline__ float activate(float x) {
  constexpr float kTwoRootTwoOverPi = 2 * 0.7978845608f;
  const float argument = kActivation == Activation::kSilu
                             ? x
                             : x * fmaf(x * x, kTwoRootTwoOverPi * 0.044715f, kTwoRootTwoOverPi);
  return x / (1.0f + expf(-argument));
}

/// A thread has one access of a row. Grid [num_rows, ceil(accesses / threads)].
template <class T, int kCount, Activation kActivation>
__global__ void gated_activation_kernel(const __grid_constant__ GatedActivationParams p) {
  const std::int64_t row = blockIdx.x;
  const std::int64_t i = (std::int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * kCount;
  if (i >= p.width) return;
  const T* gates = static_cast<const T*>(p.gate_up) + row * p.gate_up_stride;
  float gate[kCount], up[kCount];
  load_floats(gates + i, gate);
  load_floats(gates + p.width + i, up);
#pragma unroll
  for (int j = 0; j < kCount; ++j) gate[j] = activate<kActivation>(gate[j]) * up[j];
  store_floats(static_cast<T*>(p.out) + row * p.out_stride + i, gate);
}

}  // namespace specbranch
