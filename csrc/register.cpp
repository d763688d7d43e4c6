// The ops as torch sees them: schemas here, implementations in torch_ops/.
#include "register.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "common/parallel.h"

// A functional op allocates its results; its _out form writes given tensors and returns nothing,
// and allocates nothing where it is given a workspace.
#define SPECBRANCH_FILTER "Tensor temperature, Tensor top_k, Tensor top_p, Tensor min_p"
#define SPECBRANCH_DRAWS SPECBRANCH_FILTER ", Tensor seed, Tensor position"
#define SPECBRANCH_ATTENTION                                                            \
  "Tensor q, Tensor k_cache, Tensor v_cache, Tensor block_table, Tensor context_lens, " \
  "Tensor n_nodes, Tensor row_indptr, Tensor ancestor_mask"
#define SPECBRANCH_TREE \
  "Tensor candidates, Tensor parents, Tensor n_nodes, Tensor n_rows, Tensor target_logits"

namespace specbranch {
namespace {

constexpr const char* kSchemas[] = {
    "tree_mask(Tensor parents, Tensor n_nodes, Tensor row_indptr, int num_rows) "
    "-> (Tensor ancestor_mask, Tensor depth)",
    "tree_mask_out(Tensor parents, Tensor n_nodes, Tensor row_indptr, Tensor(a!) ancestor_mask, "
    "Tensor(b!) depth) -> ()",

    "append_kv_(Tensor k, Tensor v, Tensor(a!) k_cache, Tensor(b!) v_cache, Tensor block_table, "
    "Tensor start, Tensor row_indptr) -> ()",

    "branch_attention(" SPECBRANCH_ATTENTION
    ", float scale, float softcap=0.0, int window=0) -> (Tensor out, Tensor lse)",
    "branch_attention_out(" SPECBRANCH_ATTENTION
    ", float scale, float softcap, int window, Tensor(a!) out, Tensor(b!) lse, "
    "Tensor(c!)? workspace=None) -> ()",

    "compact_kv_(Tensor(a!)[] k_caches, Tensor(b!)[] v_caches, Tensor block_table, "
    "Tensor context_lens, Tensor keep, Tensor keep_lens) -> ()",

    "sampling_probs(Tensor logits, " SPECBRANCH_FILTER ") -> Tensor",
    "sampling_probs_out(Tensor logits, " SPECBRANCH_FILTER
    ", Tensor(a!) probs, "
    "Tensor(b!)? workspace=None) -> ()",

    "sample(Tensor logits, " SPECBRANCH_DRAWS ") -> Tensor",
    "sample_out(Tensor logits, " SPECBRANCH_DRAWS
    ", Tensor(a!) ids, "
    "Tensor(b!)? workspace=None) -> ()",

    "draft_topk(Tensor logits, int k, " SPECBRANCH_DRAWS
    ", str coupling, Tensor? token_ids=None) "
    "-> (Tensor ids, Tensor estimates, Tensor max_prob, Tensor entropy)",
    "draft_topk_out(Tensor logits, int k, " SPECBRANCH_DRAWS
    ", str coupling, Tensor? token_ids, Tensor(a!) ids, Tensor(b!) estimates, "
    "Tensor(c!) max_prob, Tensor(d!) entropy, Tensor(e!)? workspace=None) -> ()",

    "verify_tree(" SPECBRANCH_TREE ", " SPECBRANCH_DRAWS
    ", Tensor? draft_probs=None, Tensor? draw=None) "
    "-> (Tensor path, Tensor path_len, Tensor next_token, Tensor winner, Tensor status)",
    "verify_tree_out(" SPECBRANCH_TREE ", " SPECBRANCH_DRAWS
    ", Tensor? draft_probs, Tensor? draw, Tensor(a!) path, Tensor(b!) path_len, "
    "Tensor(c!) next_token, Tensor(d!) winner, Tensor(e!) status, Tensor(f!)? workspace=None) -> "
    "()",
};

void install_torch_threads() {
  set_parallel_backend({
      .parallel_for =
          [](int64_t begin, int64_t end, int64_t grain, ParallelBackend::Body body, void* context) {
            TORCH_ERROR_CODE_CHECK(torch_parallel_for(begin, end, grain, body, context));
          },
      .num_threads = [] { return static_cast<int>(torch::stable::get_num_threads()); },
  });
}

}  // namespace

std::span<const char* const> op_schemas() { return kSchemas; }

}  // namespace specbranch

STABLE_TORCH_LIBRARY(specbranch, library) {
  for (const char* schema : specbranch::op_schemas()) library.def(schema);
  specbranch::install_torch_threads();
}
