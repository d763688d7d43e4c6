#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "common/cuda_stream.h"

namespace specbranch {

struct LaunchShape {
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes = 0;  // dynamic shared memory of a block
};

/// Throws std::runtime_error if CUDA refused `op`. The error is taken from the runtime, so that the
/// next launch does not find it.
inline void check_cuda(const char* op, cudaError_t error) {
  if (error == cudaSuccess) return;
  (void)cudaGetLastError();
  throw std::runtime_error(std::string(op) + ": " + cudaGetErrorString(error));
}

/// Enqueues a kernel for op. Throws std::runtime_error where CUDA refuses the launch.
template <class... Params>
void launch_kernel(const char* op, void (*kernel)(Params...), const LaunchShape& shape,
                   CudaStream stream, const std::type_identity_t<Params>&... params) {
  constexpr std::size_t kAlwaysAllowed = 48 << 10;
  if (shape.shared_bytes > kAlwaysAllowed) {
    check_cuda(op, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                        static_cast<int>(shape.shared_bytes)));
  }
  kernel<<<shape.grid, shape.block, shape.shared_bytes, stream>>>(params...);
  check_cuda(op, cudaGetLastError());
}

}  // namespace specbranch
