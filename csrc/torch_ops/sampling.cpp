#include "sampling/params.h"

#include <torch/csrc/stable/library.h>

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>

#include "common/cpu/kernels.h"
#include "sampling/launch.h"
#include "torch_ops/allowed_tokens.h"
#include "torch_ops/cuda_stream.h"
#include "torch_ops/filters.h"
#include "torch_ops/launch_workspace.h"
#include "torch_ops/tensor_arg.h"

namespace specbranch {
namespace {

LogitsRows check_logits(OpCheck& op, const Tensor& logits_) {
  const TensorArg logits = op.tensor("logits", logits_, kFloating, {"R", "V"});
  op.require(op.size("V") > 0, "logits", "a vocabulary of at least one token", op.size("V"));
  return {logits.data(), logits.dtype(), logits.stride(0), op.size("R"), op.size("V")};
}

void sampling_probs_out(const Tensor& logits, const Tensor& temperature, const Tensor& top_k,
                        const Tensor& top_p, const Tensor& min_p, const Tensor& probs_,
                        const std::optional<Tensor>& workspace_) {
  OpCheck op("sampling_probs");
  SamplingProbsParams params{};
  params.logits = check_logits(op, logits);
  params.filters = check_filters(op, {temperature, top_k, top_p, min_p}, "R");
  const TensorArg probs = op.output("probs", probs_, {kFloat32}, {"R", "V"});
  params.probs = probs.data<float>();
  params.probs_stride = probs.stride(0);
  if (logits.is_cpu()) {
    if (workspace_) check_workspace(op, *workspace_, 0);
    check_filter_values(op, params.filters, op.size("R"));
    cpu_kernels().sampling_probs(params);
    return;
  }
#if defined(SPECBRANCH_WITH_CUDA)
  const CudaLaunch launch(logits);
  const LaunchWorkspace workspace(op, logits, workspace_,
                                  sampling_probs_workspace(op.size("R"), op.size("V")));
  launch_sampling_probs(params, workspace.get(), static_cast<CudaStream>(launch.stream()));
#endif
}

Tensor sampling_probs(const Tensor& logits, const Tensor& temperature, const Tensor& top_k,
                      const Tensor& top_p, const Tensor& min_p) {
  OpCheck op("sampling_probs");
  check_logits(op, logits);
  const Tensor probs = new_empty(logits, {op.size("R"), op.size("V")}, kFloat32);
  sampling_probs_out(logits, temperature, top_k, top_p, min_p, probs, std::nullopt);
  return probs;
}

void sample_out(const Tensor& logits, const Tensor& temperature, const Tensor& top_k,
                const Tensor& top_p, const Tensor& min_p, const Tensor& seed,
                const Tensor& position, const std::optional<Tensor>& allowed, const Tensor& ids,
                const std::optional<Tensor>& workspace_) {
  OpCheck op("sample");
  SampleParams params{};
  params.logits = check_logits(op, logits);
  params.filters = check_filters(op, {temperature, top_k, top_p, min_p}, "R");
  params.seed = op.tensor("seed", seed, {kInt64}, {"R"}).data<std::int64_t>();
  params.position = op.tensor("position", position, {kInt32}, {"R"}).data<std::int32_t>();
  params.allowed = check_allowed(op, allowed, "R");
  params.ids = op.output("ids", ids, {kInt32}, {"R"}).data<std::int32_t>();
  if (logits.is_cpu()) {
    if (workspace_) check_workspace(op, *workspace_, 0);
    check_filter_values(op, params.filters, op.size("R"));
    cpu_kernels().sample(params);
    return;
  }
#if defined(SPECBRANCH_WITH_CUDA)
  const CudaLaunch launch(logits);
  const LaunchWorkspace workspace(op, logits, workspace_,
                                  sample_workspace(op.size("R"), op.size("V")));
  launch_sample(params, workspace.get(), static_cast<CudaStream>(launch.stream()));
#endif
}

Tensor sample(const Tensor& logits, const Tensor& temperature, const Tensor& top_k,
              const Tensor& top_p, const Tensor& min_p, const Tensor& seed, const Tensor& position,
              const std::optional<Tensor>& allowed) {
  OpCheck op("sample");
  check_logits(op, logits);
  const Tensor ids = new_empty(logits, {op.size("R")}, kInt32);
  sample_out(logits, temperature, top_k, top_p, min_p, seed, position, allowed, ids, std::nullopt);
  return ids;
}

Coupling check_coupling(const OpCheck& op, const std::string& coupling) {
  if (coupling == "gumbel") return Coupling::kGumbel;
  if (coupling == "rejection") return Coupling::kRejection;
  op.fail("coupling", "gumbel or rejection", coupling);
}

void check_token_ids(const OpCheck& op, const DraftTopkParams& params) {
  if (params.token_ids == nullptr) return;
  for (std::int64_t i = 0; i < params.logits.vocab_size; ++i) {
    require_entry(op, params.token_ids[i] >= 0, "token_ids", "values >= 0", params.token_ids[i], i);
  }
}

void draft_topk_out(const Tensor& logits, std::int64_t k, const Tensor& temperature,
                    const Tensor& top_k, const Tensor& top_p, const Tensor& min_p,
                    const Tensor& seed, const Tensor& position, const std::string& coupling,
                    const std::optional<Tensor>& token_ids_, const Tensor& ids_,
                    const Tensor& estimates_, const Tensor& max_prob, const Tensor& entropy,
                    const std::optional<Tensor>& workspace_) {
  OpCheck op("draft_topk");
  DraftTopkParams params{};
  params.logits = check_logits(op, logits);
  op.require_count(k, "k", 1);
  op.bind("k", k);
  params.k = k;
  params.filters = check_filters(op, {temperature, top_k, top_p, min_p}, "R");
  params.seed = op.tensor("seed", seed, {kInt64}, {"R"}).data<std::int64_t>();
  params.position = op.tensor("position", position, {kInt32}, {"R"}).data<std::int32_t>();
  params.coupling = check_coupling(op, coupling);
  const auto token_ids = op.optional("token_ids", token_ids_, {kInt32}, {"V"});
  if (token_ids) params.token_ids = token_ids->data<std::int32_t>();
  const TensorArg ids = op.output("ids", ids_, {kInt32}, {"R", "k"});
  params.ids = ids.data<std::int32_t>();
  params.ids_stride = ids.stride(0);
  const TensorArg estimates = op.output("estimates", estimates_, {kFloat32}, {"R", "k"});
  params.estimates = estimates.data<float>();
  params.estimates_stride = estimates.stride(0);
  params.max_prob = op.output("max_prob", max_prob, {kFloat32}, {"R"}).data<float>();
  params.entropy = op.output("entropy", entropy, {kFloat32}, {"R"}).data<float>();
  if (logits.is_cpu()) {
    if (workspace_) check_workspace(op, *workspace_, 0);
    check_filter_values(op, params.filters, op.size("R"));
    check_token_ids(op, params);
    cpu_kernels().draft_topk(params);
    return;
  }
#if defined(SPECBRANCH_WITH_CUDA)
  op.require(k <= kMaxDraftGuesses, "k", "at most 256 on CUDA", k);
  const CudaLaunch launch(logits);
  const LaunchWorkspace workspace(op, logits, workspace_,
                                  draft_topk_workspace(op.size("R"), op.size("V")));
  launch_draft_topk(params, workspace.get(), static_cast<CudaStream>(launch.stream()));
#endif
}

std::tuple<Tensor, Tensor, Tensor, Tensor> draft_topk(
    const Tensor& logits, std::int64_t k, const Tensor& temperature, const Tensor& top_k,
    const Tensor& top_p, const Tensor& min_p, const Tensor& seed, const Tensor& position,
    const std::string& coupling, const std::optional<Tensor>& token_ids) {
  OpCheck op("draft_topk");
  check_logits(op, logits);
  op.require_count(k, "k", 1);
  const std::int64_t num_rows = op.size("R");
  const Tensor ids = new_empty(logits, {num_rows, k}, kInt32);
  const Tensor estimates = new_empty(logits, {num_rows, k}, kFloat32);
  const Tensor max_prob = new_empty(logits, {num_rows}, kFloat32);
  const Tensor entropy = new_empty(logits, {num_rows}, kFloat32);
  draft_topk_out(logits, k, temperature, top_k, top_p, min_p, seed, position, coupling, token_ids,
                 ids, estimates, max_prob, entropy, std::nullopt);
  return {ids, estimates, max_prob, entropy};
}

}  // namespace
}  // namespace specbranch

STABLE_TORCH_LIBRARY_IMPL(specbranch, CPU, library) {
  library.impl("sampling_probs", TORCH_BOX(&specbranch::sampling_probs));
  library.impl("sampling_probs_out", TORCH_BOX(&specbranch::sampling_probs_out));
  library.impl("sample", TORCH_BOX(&specbranch::sample));
  library.impl("sample_out", TORCH_BOX(&specbranch::sample_out));
  library.impl("draft_topk", TORCH_BOX(&specbranch::draft_topk));
  library.impl("draft_topk_out", TORCH_BOX(&specbranch::draft_topk_out));
}

#if defined(SPECBRANCH_WITH_CUDA)
STABLE_TORCH_LIBRARY_IMPL(specbranch, CUDA, library) {
  library.impl("sampling_probs", TORCH_BOX(&specbranch::sampling_probs));
  library.impl("sampling_probs_out", TORCH_BOX(&specbranch::sampling_probs_out));
  library.impl("sample", TORCH_BOX(&specbranch::sample));
  library.impl("sample_out", TORCH_BOX(&specbranch::sample_out));
  library.impl("draft_topk", TORCH_BOX(&specbranch::draft_topk));
  library.impl("draft_topk_out", TORCH_BOX(&specbranch::draft_topk_out));
}
#endif
