#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <tuple>

#include "attention/cpu/plan.h"
#include "attention/cpu/request_keys.h"
#include "attention/launch.h"
#include "attention/params.h"
#include "attention/split_plan.h"
#include "common/cpu/kernels.h"
#include "common/multiprocessors.h"
#include "torch_ops/cuda_stream.h"
#include "torch_ops/launch_workspace.h"
#include "torch_ops/paged_kv.h"
#include "torch_ops/ragged_rows.h"
#include "torch_ops/tensor_arg.h"

namespace specbranch {

using SPECBRANCH_CPU_NS::branch_attention_workspace;
using SPECBRANCH_CPU_NS::ceil_div;
using SPECBRANCH_CPU_NS::RequestKeys;

namespace {

void check_trees(const OpCheck& op, const TreeMaskParams& p) {
  require_row_indptr(op, p.row_indptr, p.batch_size, p.num_rows);
  for (std::int64_t b = 0; b < p.batch_size; ++b) {
    const std::int64_t rows = p.row_indptr[b + 1] - p.row_indptr[b];
    if (rows == 0) continue;
    require_in_range(op, "n_nodes", p.n_nodes[b], 0, op.size("N"), b);
    require_nodes_of_rows(op, rows, p.n_nodes[b], b);
    for (std::int64_t node = 0; node < p.n_nodes[b]; ++node) {
      const std::int32_t parent = p.parents[b * p.parents_stride + node];
      if (parent >= -1 && parent < node) continue;
      op.fail(
          "parents", "an earlier node or -1",
          std::to_string(parent) + " at [" + std::to_string(b) + ", " + std::to_string(node) + "]");
    }
  }
}

void tree_mask_out(const Tensor& parents_, const Tensor& n_nodes_, const Tensor& row_indptr_,
                   const Tensor& ancestor_mask_, const Tensor& depth_) {
  OpCheck op("tree_mask");
  const TensorArg parents = op.tensor("parents", parents_, {kInt32}, {"B", "N"});
  const TensorArg n_nodes = op.tensor("n_nodes", n_nodes_, {kInt32}, {"B"});
  const std::int32_t* row_indptr = check_row_indptr(op, row_indptr_);
  op.bind("W", ceil_div(op.size("N"), 32));
  const TensorArg mask = op.output("ancestor_mask", ancestor_mask_, {kInt32}, {"T", "W"});
  const TensorArg depth = op.output("depth", depth_, {kInt32}, {"T"});
  const TreeMaskParams params{
      .parents = parents.data<const std::int32_t>(),
      .n_nodes = n_nodes.data<const std::int32_t>(),
      .row_indptr = row_indptr,
      .ancestor_mask = mask.data<std::int32_t>(),
      .depth = depth.data<std::int32_t>(),
      .parents_stride = parents.stride(0),
      .mask_stride = mask.stride(0),
      .batch_size = op.size("B"),
      .num_rows = op.size("T"),
      .num_words = op.size("W"),
  };
  if (parents_.is_cpu()) {
    check_trees(op, params);
    cpu_kernels().tree_mask(params);
    return;
  }
#if defined(SPECBRANCH_WITH_CUDA)
  const CudaLaunch launch(parents_);
  launch_tree_mask(params, static_cast<CudaStream>(launch.stream()));
#endif
}

std::tuple<Tensor, Tensor> tree_mask(const Tensor& parents, const Tensor& n_nodes,
                                     const Tensor& row_indptr, std::int64_t num_rows) {
  OpCheck op("tree_mask");
  op.tensor("parents", parents, {kInt32}, {"B", "N"});
  op.require_count(num_rows, "num_rows", 0);
  const Tensor mask = new_empty(parents, {num_rows, ceil_div(op.size("N"), 32)}, kInt32);
  const Tensor depth = new_empty(parents, {num_rows}, kInt32);
  tree_mask_out(parents, n_nodes, row_indptr, mask, depth);
  return {mask, depth};
}

/// The inputs of branch_attention, as the schema has them.
struct AttentionInputs {
  const Tensor& q;
  const Tensor& k_cache;
  const Tensor& v_cache;
  const Tensor& block_table;
  const Tensor& context_lens;
  const Tensor& n_nodes;
  const Tensor& row_indptr;
  const Tensor& ancestor_mask;
  double scale;
  double softcap;
  std::int64_t window;
  std::int64_t split_size;
};

void require_split_size(const OpCheck& op, std::int64_t split_size, std::int64_t max_positions) {
  const std::int64_t least = ceil_div(max_positions, kMaxSplits);
  op.require(split_size >= 0 && split_size % kSplitUnit == 0 && split_size <= INT32_MAX,
             "split_size", "0 (none) or a multiple of " + std::to_string(kSplitUnit), split_size);
  op.require(split_size == 0 || split_size >= least, "split_size",
             "at least " + std::to_string(least) + " for so many positions", split_size);
}

BranchAttentionParams check_inputs(OpCheck& op, const AttentionInputs& in) {
  const TensorArg q = op.tensor("q", in.q, kFloating, {"T", "Hq", "D"});
  const TensorArg k_cache =
      op.tensor("k_cache", in.k_cache, {q.scalar_type()}, {"P", "S", "Hkv", "D"});
  const TensorArg v_cache =
      op.tensor("v_cache", in.v_cache, {q.scalar_type()}, {"P", "S", "Hkv", "D"});
  const TensorArg table = op.tensor("block_table", in.block_table, {kInt32}, {"B", "M"});
  const TensorArg context_lens = op.tensor("context_lens", in.context_lens, {kInt32}, {"B"});
  const TensorArg n_nodes = op.tensor("n_nodes", in.n_nodes, {kInt32}, {"B"});
  const std::int32_t* row_indptr = check_row_indptr(op, in.row_indptr);
  const TensorArg mask = op.tensor("ancestor_mask", in.ancestor_mask, {kInt32}, {"T", "W"});

  const std::int64_t head_dim = op.size("D");
  const std::int64_t num_qo_heads = op.size("Hq");
  const std::int64_t num_kv_heads = op.size("Hkv");
  op.require(head_dim > 0 && head_dim % 8 == 0 && head_dim <= kMaxHeadDim, "q",
             "a head_dim D that is a multiple of 8 up to 256", head_dim);
  op.require(num_kv_heads > 0 && num_qo_heads % num_kv_heads == 0, "q",
             "a multiple of the Hkv heads of k_cache as Hq", num_qo_heads);
  op.require(in.softcap >= 0, "softcap", "0 (none) or more", in.softcap);
  op.require(in.window >= 0, "window", "0 (none) or more", in.window);
  require_split_size(op, in.split_size, op.size("M") * op.size("S"));
  return {
      .dtype = q.dtype(),
      .q = q.data(),
      .k_cache = k_cache.data(),
      .v_cache = v_cache.data(),
      .q_strides = row_strides(q),
      .k_strides = kv_strides(k_cache),
      .v_strides = kv_strides(v_cache),
      .block_table = block_table(table, op),
      .context_lens = context_lens.data<const std::int32_t>(),
      .n_nodes = n_nodes.data<const std::int32_t>(),
      .row_indptr = row_indptr,
      .ancestor_mask = mask.data<const std::int32_t>(),
      .mask_stride = mask.stride(0),
      .batch_size = op.size("B"),
      .num_rows = op.size("T"),
      .num_qo_heads = num_qo_heads,
      .num_kv_heads = num_kv_heads,
      .head_dim = head_dim,
      .max_positions = op.size("M") * op.size("S"),
      .scale = static_cast<float>(in.scale),
      .softcap = static_cast<float>(in.softcap),
      .window = std::min<std::int64_t>(in.window, INT32_MAX),  // kernels count in int
      .split_size = in.split_size,
  };
}

void check_lengths(const OpCheck& op, const BranchAttentionParams& p) {
  require_row_indptr(op, p.row_indptr, p.batch_size, p.num_rows);
  for (std::int64_t b = 0; b < p.batch_size; ++b) {
    const std::int64_t rows = p.row_indptr[b + 1] - p.row_indptr[b];
    if (rows == 0) continue;
    require_in_range(op, "context_lens", p.context_lens[b], 0, p.max_positions, b);
    require_in_range(op, "n_nodes", p.n_nodes[b], 0, 32 * op.size("W"), b);
    require_nodes_of_rows(op, rows, p.n_nodes[b], b);
    const RequestKeys keys(p, b);
    require_pages(op, p.block_table, b, keys.first_key(), keys.num_keys());
  }
}

void attend_on_cpu(OpCheck& op, BranchAttentionParams& params, const Tensor& q,
                   const std::optional<Tensor>& workspace_) {
  check_lengths(op, params);
  const std::int64_t needed = branch_attention_workspace(params);
  const Tensor workspace = workspace_ ? *workspace_ : new_empty(q, {needed}, kFloat32);
  check_workspace(op, workspace, needed);
  params.workspace = static_cast<float*>(workspace.mutable_data_ptr());
  cpu_kernels().branch_attention(params);
}

#if defined(SPECBRANCH_WITH_CUDA)
void attend_on_cuda(OpCheck& op, const BranchAttentionParams& params, const Tensor& q,
                    const std::optional<Tensor>& workspace_) {
  if (params.batch_size == 0 || params.num_rows == 0 || params.num_qo_heads == 0) return;
  const CudaLaunch launch(q);
  const SplitPlan plan(params, num_multiprocessors());
  const LaunchWorkspace workspace(op, q, workspace_, plan.workspace(params));
  launch_branch_attention(params, plan, workspace.get(), static_cast<CudaStream>(launch.stream()));
}
#endif

void branch_attention_into(const AttentionInputs& in, const Tensor& out_, const Tensor& lse_,
                           const std::optional<Tensor>& workspace) {
  OpCheck op("branch_attention");
  BranchAttentionParams params = check_inputs(op, in);
  const TensorArg out = op.output("out", out_, {in.q.scalar_type()}, {"T", "Hq", "D"});
  const TensorArg lse = op.output("lse", lse_, {kFloat32}, {"T", "Hq"});
  params.out = out.data();
  params.out_strides = row_strides(out);
  params.lse = lse.data<float>();
  params.lse_strides = row_strides(lse);
  if (in.q.is_cpu()) {
    attend_on_cpu(op, params, in.q, workspace);
    return;
  }
#if defined(SPECBRANCH_WITH_CUDA)
  attend_on_cuda(op, params, in.q, workspace);
#endif
}

void branch_attention_out(const Tensor& q, const Tensor& k_cache, const Tensor& v_cache,
                          const Tensor& block_table, const Tensor& context_lens,
                          const Tensor& n_nodes, const Tensor& row_indptr,
                          const Tensor& ancestor_mask, double scale, double softcap,
                          std::int64_t window, std::int64_t split_size, const Tensor& out,
                          const Tensor& lse, std::optional<Tensor> workspace) {
  branch_attention_into({q, k_cache, v_cache, block_table, context_lens, n_nodes, row_indptr,
                         ancestor_mask, scale, softcap, window, split_size},
                        out, lse, workspace);
}

std::tuple<Tensor, Tensor> branch_attention(const Tensor& q, const Tensor& k_cache,
                                            const Tensor& v_cache, const Tensor& block_table,
                                            const Tensor& context_lens, const Tensor& n_nodes,
                                            const Tensor& row_indptr, const Tensor& ancestor_mask,
                                            double scale, double softcap, std::int64_t window,
                                            std::int64_t split_size) {
  OpCheck op("branch_attention");
  op.tensor("q", q, kFloating, {"T", "Hq", "D"});
  const Tensor out = new_empty(q, {op.size("T"), op.size("Hq"), op.size("D")}, q.scalar_type());
  const Tensor lse = new_empty(q, {op.size("T"), op.size("Hq")}, kFloat32);
  branch_attention_into({q, k_cache, v_cache, block_table, context_lens, n_nodes, row_indptr,
                         ancestor_mask, scale, softcap, window, split_size},
                        out, lse, std::nullopt);
  return {out, lse};
}

}  // namespace
}  // namespace specbranch

STABLE_TORCH_LIBRARY_IMPL(specbranch, CPU, library) {
  library.impl("tree_mask", TORCH_BOX(&specbranch::tree_mask));
  library.impl("tree_mask_out", TORCH_BOX(&specbranch::tree_mask_out));
  library.impl("branch_attention", TORCH_BOX(&specbranch::branch_attention));
  library.impl("branch_attention_out", TORCH_BOX(&specbranch::branch_attention_out));
}

#if defined(SPECBRANCH_WITH_CUDA)
STABLE_TORCH_LIBRARY_IMPL(specbranch, CUDA, library) {
  library.impl("tree_mask", TORCH_BOX(&specbranch::tree_mask));
  library.impl("tree_mask_out", TORCH_BOX(&specbranch::tree_mask_out));
  library.impl("branch_attention", TORCH_BOX(&specbranch::branch_attention));
  library.impl("branch_attention_out", TORCH_BOX(&specbranch::branch_attention_out));
}
#endif
