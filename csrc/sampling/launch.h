#pragma once

#include "common/cuda_stream.h"
#include "common/workspace.h"
#include "sampling/params.h"

namespace specbranch {

/// The largest k that draft_topk can have.
inline constexpr std::int64_t kMaxDraftGuesses = 256;

WorkspaceSize sampling_probs_workspace(const SamplingProbsParams& params);
WorkspaceSize sample_workspace(const SampleParams& params);
WorkspaceSize draft_topk_workspace(const DraftTopkParams& params);

// sampling_probs enqueues two kernels, the others one. They throw std::runtime_error where CUDA
// refuses the launch.
void launch_sampling_probs(const SamplingProbsParams& params, const Workspace& workspace,
                           CudaStream stream);
void launch_sample(const SampleParams& params, const Workspace& workspace, CudaStream stream);
void launch_draft_topk(const DraftTopkParams& params, const Workspace& workspace,
                       CudaStream stream);

}  // namespace specbranch
