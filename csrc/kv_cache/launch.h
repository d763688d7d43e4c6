#pragma once

#include "common/cuda_stream.h"
#include "kv_cache/params.h"

namespace specbranch {

// Each enqueues one kernel. They throw std::runtime_error where CUDA refuses the launch.
void launch_append_kv(const AppendKvParams& params, CudaStream stream);
void launch_compact_kv(const CompactKvParams& params, CudaStream stream);

}  // namespace specbranch
