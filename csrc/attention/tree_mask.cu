#include "attention/tree_mask.cuh"

#include "attention/launch.h"
#include "common/cuda_check.h"

namespace specbranch {

void launch_tree_mask(const TreeMaskParams& params, CudaStream stream) {
  if (params.batch_size == 0 || params.max_nodes == 0) return;
  const dim3 grid((params.max_nodes + kTreeMaskThreads - 1) / kTreeMaskThreads, params.batch_size);
  tree_mask_kernel<<<grid, kTreeMaskThreads, 0, stream>>>(params);
  check_launch("tree_mask");
}

}  // namespace specbranch
