#pragma once

#include "common/cuda_stream.h"
#include "forward/params.h"

namespace specbranch {

// Each enqueues one kernel. They throw std::runtime_error where CUDA refuses the launch.
void launch_add_rms_norm(const AddRmsNormParams& params, CudaStream stream);
void launch_gated_activation(const GatedActivationParams& params, CudaStream stream);
void launch_rope_append_kv(const RopeAppendKvParams& params, CudaStream stream);

}  // namespace specbranch
