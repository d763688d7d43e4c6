#include "sampling/launch.h"
#include "verify/launch.h"
#include "workspace.hpp"

SIMT_ROWS_LAUNCHER(sampling_probs, SamplingProbsParams)
SIMT_ROWS_LAUNCHER(sample, SampleParams)
SIMT_ROWS_LAUNCHER(draft_topk, DraftTopkParams)
SIMT_WORKSPACE_LAUNCHER(verify_tree, VerifyTreeParams)

SIMT_EXPORT int verify_tree_workspace(long batch_size, long num_rows, long vocab_size,
                                      simt::WorkspaceNeed* need) {
  *need = simt::WorkspaceNeed(specbranch::verify_tree_workspace(batch_size, num_rows, vocab_size));
  return 0;
}
