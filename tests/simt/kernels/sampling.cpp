#include "sampling/launch.h"
#include "verify/launch.h"
#include "workspace.hpp"

SIMT_WORKSPACE_LAUNCHER(sampling_probs, SamplingProbsParams)
SIMT_WORKSPACE_LAUNCHER(sample, SampleParams)
SIMT_WORKSPACE_LAUNCHER(draft_topk, DraftTopkParams)
SIMT_WORKSPACE_LAUNCHER(verify_tree, VerifyTreeParams)
