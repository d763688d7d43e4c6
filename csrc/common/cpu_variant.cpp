// Compiled once per capability, like the kernels: the table of one variant.
#include "common/cpu_kernels.h"

namespace specbranch::SPECBRANCH_CPU_NS {

[[gnu::weak]] void tree_mask(const TreeMaskParams&);
[[gnu::weak]] void append_kv(const AppendKvParams&);
[[gnu::weak]] void branch_attention(const BranchAttentionParams&);
[[gnu::weak]] void compact_kv(const CompactKvParams&);
[[gnu::weak]] void sampling_probs(const SamplingProbsParams&);
[[gnu::weak]] void sample(const SampleParams&);
[[gnu::weak]] void draft_topk(const DraftTopkParams&);
[[gnu::weak]] void verify_tree(const VerifyTreeParams&);

extern const CpuKernels kernels;
const CpuKernels kernels = {
    .tree_mask = tree_mask,
    .append_kv = append_kv,
    .branch_attention = branch_attention,
    .compact_kv = compact_kv,
    .sampling_probs = sampling_probs,
    .sample = sample,
    .draft_topk = draft_topk,
    .verify_tree = verify_tree,
};

}  // namespace specbranch::SPECBRANCH_CPU_NS
