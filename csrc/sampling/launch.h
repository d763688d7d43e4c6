#pragma once

#include <cstdint>

#include "common/cuda_stream.h"
#include "common/workspace.h"
#include "sampling/params.h"

namespace specbranch {

/// The largest k that draft_topk can have.
inline constexpr std::int64_t kMaxDraftGuesses = 256;

// Of logits [R, V].
WorkspaceSize sampling_probs_workspace(std::int64_t num_rows, std::int64_t vocab_size);
WorkspaceSize sample_workspace(std::int64_t num_rows, std::int64_t vocab_size);
WorkspaceSize draft_topk_workspace(std::int64_t num_rows, std::int64_t vocab_size);

// Each enqueues one kernel, and throws std::runtime_error where CUDA refuses the launch.
void launch_sampling_probs(const SamplingProbsParams& params, const Workspace& workspace,
                           CudaStream stream);
void launch_sample(const SampleParams& params, const Workspace& workspace, CudaStream stream);
void launch_draft_topk(const DraftTopkParams& params, const Workspace& workspace,
                       CudaStream stream);

}  // namespace specbranch
