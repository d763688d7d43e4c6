#include "attention/tree_mask.cuh"

#include "attention/launch.h"
#include "common/cuda_launch.cuh"

namespace specbranch {

void launch_tree_mask(const TreeMaskParams& params, CudaStream stream) {
  if (params.batch_size == 0 || params.max_nodes == 0) return;
  const dim3 grid((params.max_nodes + kTreeMaskThreads - 1) / kTreeMaskThreads, params.batch_size);
  launch_kernel("tree_mask", tree_mask_kernel, {grid, kTreeMaskThreads}, stream, params);
}

}  // namespace specbranch
