#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "torch_ops/tensor_arg.h"

namespace specbranch {

/// For the time of one launch, makes the device of a tensor current and knows torch's current
/// stream there (a cudaStream_t).
class CudaLaunch {
 public:
  explicit CudaLaunch(const torch::stable::Tensor& tensor);

  void* stream() const { return stream_; }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  void* stream_;
};

/// CUDA takes so many blocks along any axis of a grid but the first.
inline void require_grid(const OpCheck& op, std::string_view argument, std::string_view name,
                         std::int64_t blocks) {
  constexpr std::int64_t kMostBlocks = 65535;
  op.require(blocks <= kMostBlocks, argument,
             std::string(name) + " up to " + std::to_string(kMostBlocks) + " on CUDA", blocks);
}

}  // namespace specbranch
