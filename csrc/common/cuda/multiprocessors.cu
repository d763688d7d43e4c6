#include "common/multiprocessors.h"

#include "common/cuda/launch.cuh"

namespace specbranch {

int num_multiprocessors() {
  constexpr const char* kWho = "specbranch";
  int device = 0;
  int count = 0;
  check_cuda(kWho, cudaGetDevice(&device));
  check_cuda(kWho, cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
  return count;
}

}  // namespace specbranch
