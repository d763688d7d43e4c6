#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/tensor.h>

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

}  // namespace specbranch
