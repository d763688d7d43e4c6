#include "torch_ops/cuda_stream.h"

#include <dlfcn.h>

#include <stdexcept>

namespace specbranch {
namespace {

using GetCurrentCudaStream = AOTITorchError (*)(std::int32_t device_index, void** stream);

// A CPU build of torch lacks libtorch_cuda, and the same binary must load beside it: so the symbol
// is looked up at the first launch, when CUDA tensors exist and the library is therefore loaded.
GetCurrentCudaStream find_get_current_cuda_stream() {
  void* library = dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_NOLOAD);
  void* symbol = library ? dlsym(library, "aoti_torch_get_current_cuda_stream") : nullptr;
  if (symbol == nullptr) {
    throw std::runtime_error("specbranch: this torch has no CUDA streams (libtorch_cuda.so)");
  }
  return reinterpret_cast<GetCurrentCudaStream>(symbol);
}

void* current_cuda_stream(std::int32_t device_index) {
  static const GetCurrentCudaStream get_current_cuda_stream = find_get_current_cuda_stream();
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(get_current_cuda_stream(device_index, &stream));
  return stream;
}

}  // namespace

CudaLaunch::CudaLaunch(const torch::stable::Tensor& tensor)
    : guard_(tensor.get_device_index()), stream_(current_cuda_stream(tensor.get_device_index())) {}

}  // namespace specbranch
