#pragma once

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace specbranch {

/// Throws std::runtime_error if the launch that came just before was refused.
inline void check_launch(const char* op) {
  const cudaError_t error = cudaGetLastError();
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string(op) + ": " + cudaGetErrorString(error));
}

}  // namespace specbranch
