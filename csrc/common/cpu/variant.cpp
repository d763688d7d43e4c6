// Compiled once per capability, like the kernels: the table of one variant.
#include "common/cpu/kernels.h"

namespace specbranch::SPECBRANCH_CPU_NS {

void tree_mask(const TreeMaskParams&);
void append_kv(const AppendKvParams&);
void branch_attention(const BranchAttentionParams&);
void compact_kv(const CompactKvParams&);
void sampling_probs(const SamplingProbsParams&);
void sample(const SampleParams&);
void draft_topk(const DraftTopkParams&);
void verify_tree(const VerifyTreeParams&);
void gather_rows(const GatherRowsParams&);
void add_rms_norm(const AddRmsNormParams&);
void rope_append_kv(const RopeAppendKvParams&);
void gated_activation(const GatedActivationParams&);
void softcap(const SoftcapParams&);
void packed_linear(const PackedLinearParams&);
void quantized_linear(const QuantizedLinearParams&);
void quantized_rows(const QuantizedRowsParams&);

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
    .gather_rows = gather_rows,
    .add_rms_norm = add_rms_norm,
    .rope_append_kv = rope_append_kv,
    .gated_activation = gated_activation,
    .softcap = softcap,
    .packed_linear = packed_linear,
    .quantized_linear = quantized_linear,
    .quantized_rows = quantized_rows,
};

}  // namespace specbranch::SPECBRANCH_CPU_NS
