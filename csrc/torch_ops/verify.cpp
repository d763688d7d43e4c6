#include <torch/csrc/stable/library.h>

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>

#include "common/cpu/kernels.h"
#include "torch_ops/allowed_tokens.h"
#include "torch_ops/cuda_stream.h"
#include "torch_ops/filters.h"
#include "torch_ops/launch_workspace.h"
#include "torch_ops/ragged_rows.h"
#include "torch_ops/tensor_arg.h"
#include "verify/launch.h"
#include "verify/params.h"

namespace specbranch {
namespace {

/// The inputs of verify_tree, as the schema has them.
struct VerifyInputs {
  const Tensor& candidates;
  const Tensor& parents;
  const Tensor& n_nodes;
  const Tensor& row_indptr;
  const Tensor& target_logits;
  FilterTensors filters;
  const Tensor& seed;
  const Tensor& position;
  const std::optional<Tensor>& draft_probs;
  const std::optional<Tensor>& draw;
  const std::optional<Tensor>& allowed;
};

struct VerifyOutputs {
  const Tensor& path;
  const Tensor& path_len;
  const Tensor& next_token;
  const Tensor& winner;
  const Tensor& status;
};

VerifyTreeParams check_inputs(OpCheck& op, const VerifyInputs& in) {
  VerifyTreeParams params{};
  const TensorArg candidates = op.tensor("candidates", in.candidates, {kInt32}, {"B", "N"});
  params.candidates = candidates.data<std::int32_t>();
  params.candidates_stride = candidates.stride(0);
  const TensorArg parents = op.tensor("parents", in.parents, {kInt32}, {"B", "N"});
  params.parents = parents.data<std::int32_t>();
  params.parents_stride = parents.stride(0);
  params.n_nodes = op.tensor("n_nodes", in.n_nodes, {kInt32}, {"B"}).data<std::int32_t>();
  params.row_indptr = check_row_indptr(op, in.row_indptr);
  const TensorArg logits = op.tensor("target_logits", in.target_logits, kFloating, {"T", "V"});
  op.require(op.size("V") > 0, "target_logits", "a vocabulary of at least one token", op.size("V"));
  params.target_logits = logits.data();
  params.logits_dtype = logits.dtype();
  params.logits_stride = logits.stride(0);
  params.filters = check_filters(op, in.filters, "B");
  params.seed = op.tensor("seed", in.seed, {kInt64}, {"B"}).data<std::int64_t>();
  params.position = op.tensor("position", in.position, {kInt32}, {"B"}).data<std::int32_t>();
  params.batch_size = op.size("B");
  params.max_nodes = op.size("N");
  params.num_rows = op.size("T");
  params.vocab_size = op.size("V");
  return params;
}

void check_draft(OpCheck& op, const VerifyInputs& in, VerifyTreeParams& params) {
  const auto probs = op.optional("draft_probs", in.draft_probs, {kFloat32}, {"T", "V"});
  const auto draw = op.optional("draw", in.draw, {kUInt8}, {"B", "N"});
  if (probs && !draw) op.fail("draw", "the order of the draws from draft_probs", "None");
  if (draw && !probs) op.fail("draw", "None without draft_probs", "a tensor");
  if (!probs) return;
  params.draft_probs = probs->data<float>();
  params.probs_stride = probs->stride(0);
  params.draw = draw->data<std::uint8_t>();
  params.draw_stride = draw->stride(0);
}

void check_outputs(OpCheck& op, const VerifyOutputs& out, VerifyTreeParams& params) {
  const TensorArg path = op.output("path", out.path, {kInt32}, {"B", "N"});
  params.path = path.data<std::int32_t>();
  params.path_stride = path.stride(0);
  params.path_len = op.output("path_len", out.path_len, {kInt32}, {"B"}).data<std::int32_t>();
  params.next_token = op.output("next_token", out.next_token, {kInt32}, {"B"}).data<std::int32_t>();
  params.winner = op.output("winner", out.winner, {kInt32}, {"B"}).data<std::int32_t>();
  params.status = op.output("status", out.status, {kInt32}, {"B"}).data<std::int32_t>();
}

void check_nodes(const OpCheck& op, const VerifyTreeParams& p, std::int64_t b) {
  const std::int32_t* parents = p.parents + b * p.parents_stride;
  const std::int32_t* candidates = p.candidates + b * p.candidates_stride;
  const auto place = [&](std::int64_t node) {
    return " at [" + std::to_string(b) + ", " + std::to_string(node) + "]";
  };
  for (std::int64_t node = 0; node < p.n_nodes[b]; ++node) {
    const std::int32_t parent = parents[node], token = candidates[node];
    if (node == 0 && parent != -1) {
      op.fail("parents", "-1 for the root", std::to_string(parent) + place(node));
    }
    if (node > 0 && (parent < 0 || parent >= node)) {
      op.fail("parents", "an earlier node", std::to_string(parent) + place(node));
    }
    if (token < 0 || token >= p.vocab_size) {
      op.fail("candidates", "tokens in [0, V=" + std::to_string(p.vocab_size) + ")",
              std::to_string(token) + place(node));
    }
  }
}

void check_trees(const OpCheck& op, const VerifyTreeParams& p) {
  require_row_indptr(op, p.row_indptr, p.batch_size, p.num_rows);
  for (std::int64_t b = 0; b < p.batch_size; ++b) {
    const std::int64_t n_nodes = p.n_nodes[b], n_rows = p.row_indptr[b + 1] - p.row_indptr[b];
    require_entry(op, 0 <= n_nodes && n_nodes <= p.max_nodes, "n_nodes",
                  "values in [0, N=" + std::to_string(p.max_nodes) + "]", n_nodes, b);
    if (n_nodes == 0 || n_rows == 0) continue;  // idle: nothing of it is read
    require_entry(op, n_rows <= n_nodes, "row_indptr",
                  "at most n_nodes=" + std::to_string(n_nodes) + " rows of a request", n_rows, b);
    check_nodes(op, p, b);
  }
}

void verify_tree_into(const VerifyInputs& in, const VerifyOutputs& out,
                      const std::optional<Tensor>& workspace_) {
  OpCheck op("verify_tree");
  VerifyTreeParams params = check_inputs(op, in);
  check_draft(op, in, params);
  params.allowed = check_allowed(op, in.allowed, "T");
  check_outputs(op, out, params);
  if (in.candidates.is_cpu()) {
    if (workspace_) check_workspace(op, *workspace_, 0);
    check_filter_values(op, params.filters, params.batch_size);
    check_trees(op, params);
    cpu_kernels().verify_tree(params);
    return;
  }
#if defined(SPECBRANCH_WITH_CUDA)
  const CudaLaunch launch(in.candidates);
  const WorkspaceSize size =
      verify_tree_workspace(params.batch_size, params.num_rows, params.vocab_size);
  const LaunchWorkspace workspace(op, in.candidates, workspace_, size);
  launch_verify_tree(params, workspace.get(), static_cast<CudaStream>(launch.stream()));
#endif
}

void verify_tree_out(const Tensor& candidates, const Tensor& parents, const Tensor& n_nodes,
                     const Tensor& row_indptr, const Tensor& target_logits,
                     const Tensor& temperature, const Tensor& top_k, const Tensor& top_p,
                     const Tensor& min_p, const Tensor& seed, const Tensor& position,
                     const std::optional<Tensor>& draft_probs, const std::optional<Tensor>& draw,
                     const std::optional<Tensor>& allowed, const Tensor& path,
                     const Tensor& path_len, const Tensor& next_token, const Tensor& winner,
                     const Tensor& status, const std::optional<Tensor>& workspace) {
  verify_tree_into({candidates,
                    parents,
                    n_nodes,
                    row_indptr,
                    target_logits,
                    {temperature, top_k, top_p, min_p},
                    seed,
                    position,
                    draft_probs,
                    draw,
                    allowed},
                   {path, path_len, next_token, winner, status}, workspace);
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> verify_tree(
    const Tensor& candidates, const Tensor& parents, const Tensor& n_nodes,
    const Tensor& row_indptr, const Tensor& target_logits, const Tensor& temperature,
    const Tensor& top_k, const Tensor& top_p, const Tensor& min_p, const Tensor& seed,
    const Tensor& position, const std::optional<Tensor>& draft_probs,
    const std::optional<Tensor>& draw, const std::optional<Tensor>& allowed) {
  OpCheck op("verify_tree");
  op.tensor("candidates", candidates, {kInt32}, {"B", "N"});
  const std::int64_t batch_size = op.size("B");
  const Tensor path = new_empty(candidates, {batch_size, op.size("N")}, kInt32);
  const Tensor path_len = new_empty(candidates, {batch_size}, kInt32);
  const Tensor next_token = new_empty(candidates, {batch_size}, kInt32);
  const Tensor winner = new_empty(candidates, {batch_size}, kInt32);
  const Tensor status = new_empty(candidates, {batch_size}, kInt32);
  verify_tree_out(candidates, parents, n_nodes, row_indptr, target_logits, temperature, top_k,
                  top_p, min_p, seed, position, draft_probs, draw, allowed, path, path_len,
                  next_token, winner, status, std::nullopt);
  return {path, path_len, next_token, winner, status};
}

}  // namespace
}  // namespace specbranch

STABLE_TORCH_LIBRARY_IMPL(specbranch, CPU, library) {
  library.impl("verify_tree", TORCH_BOX(&specbranch::verify_tree));
  library.impl("verify_tree_out", TORCH_BOX(&specbranch::verify_tree_out));
}

#if defined(SPECBRANCH_WITH_CUDA)
STABLE_TORCH_LIBRARY_IMPL(specbranch, CUDA, library) {
  library.impl("verify_tree", TORCH_BOX(&specbranch::verify_tree));
  library.impl("verify_tree_out", TORCH_BOX(&specbranch::verify_tree_out));
}
#endif
