#pragma once

#include "attention/params.h"
#include "common/cuda_stream.h"

namespace specbranch {

/// Enqueues tree_mask. Throws std::runtime_error where CUDA refuses the launch.
void launch_tree_mask(const TreeMaskParams& params, CudaStream stream);

}  // namespace specbranch
