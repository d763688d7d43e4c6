#include "attention/cuda/tree_mask.cuh"

#include "attention/launch.h"
#include "common/cuda/launch.cuh"

namespace specbranch {

void launch_tree_mask(const TreeMaskParams& params, CudaStream stream) {
  if (params.batch_size == 0 || params.num_rows == 0) return;
  const dim3 grid((params.num_rows + kTreeMaskThreads - 1) / kTreeMaskThreads);
  launch_kernel("tree_mask", tree_mask_kernel, {grid, kTreeMaskThreads}, stream, params);
}

}  // namespace specbranch
