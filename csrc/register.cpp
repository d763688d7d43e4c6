// The ops as torch and Python see them: schemas and docstrings here, implementations in torch_ops/.
// specbranch/_C.pyi is made of these, by `make stub`.
#include "register.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "common/cpu/parallel.h"
#include "common/cpu/thread_pool.h"

// A functional op allocates its results; its _out form writes given tensors and returns nothing,
// and allocates nothing where it is given a workspace.
#define SPECBRANCH_FILTER "Tensor temperature, Tensor top_k, Tensor top_p, Tensor min_p"
#define SPECBRANCH_DRAWS SPECBRANCH_FILTER ", Tensor seed, Tensor position"
#define SPECBRANCH_ATTENTION                                                            \
  "Tensor q, Tensor k_cache, Tensor v_cache, Tensor block_table, Tensor context_lens, " \
  "Tensor n_nodes, Tensor row_indptr, Tensor ancestor_mask"
#define SPECBRANCH_TREE \
  "Tensor candidates, Tensor parents, Tensor n_nodes, Tensor row_indptr, Tensor target_logits"

namespace specbranch {
namespace {

constexpr Op kOps[] = {
    {"tree_mask(Tensor parents, Tensor n_nodes, Tensor row_indptr, int num_rows) "
     "-> (Tensor ancestor_mask, Tensor depth)",
     R"(Who sees whom in a draft block. A request's rows are the last nodes of its block.

parents int32 [B, N] with parents[b, 0] = -1 and parents[b, i] < i; n_nodes int32 [B], which
no request has more rows than; row_indptr int32 [B + 1]; num_rows is T.
Returns ancestor_mask int32 [T, W], bit j of a row set where j is the row's node or an ancestor
of it, and depth int32 [T].)"},

    {"tree_mask_out(Tensor parents, Tensor n_nodes, Tensor row_indptr, Tensor(a!) ancestor_mask, "
     "Tensor(b!) depth) -> ()",
     R"(tree_mask into given tensors.

Mutates ancestor_mask and depth.)"},

    {"append_kv_(Tensor k, Tensor v, Tensor(a!) k_cache, Tensor(b!) v_cache, Tensor block_table, "
     "Tensor start, Tensor row_indptr) -> ()",
     R"(Writes each request's rows of k, v [T, Hkv, D] to its positions from start[b] on.

Mutates k_cache and v_cache [P, S, Hkv, D]; block_table int32 [B, M], start int32 [B],
row_indptr int32 [B + 1].)"},

    {"rope_append_kv_(Tensor(a!) q, Tensor k, Tensor v, Tensor(b!) k_cache, Tensor(c!) v_cache, "
     "Tensor block_table, Tensor start, Tensor row_indptr, Tensor position_ids, Tensor cos, "
     "Tensor sin, Tensor? q_norm=None, Tensor? k_norm=None, float eps=0.0, float offset=0.0) -> ()",
     R"(append_kv_ of keys that are rotated on their way, and queries that are rotated in place.

Mutates q [T, Hq, D], k_cache and v_cache; k to row_indptr are those of append_kv_. Row t is
rotated by row position_ids[t] of cos and sin, float32 [L, R / 2]: dimension i < R / 2 of a head
with dimension i + R / 2; dimensions from R <= D <= 256 on stay, and R may be 0. position_ids
int32 [T]. With q_norm and k_norm [D] each head is normalised before, as rms_norm does it.)"},

    {"rms_norm(Tensor x, Tensor weight, float eps, float offset=0.0) -> Tensor",
     R"(Each row of x [T, H] / sqrt(mean(x^2) + eps) * (weight [H] + offset), all of one dtype.)"},

    {"rms_norm_out(Tensor x, Tensor weight, float eps, float offset, Tensor(a!) out) -> ()",
     R"(rms_norm into a given tensor.

Mutates out, which may be x.)"},

    {"fused_add_rms_norm(Tensor(a!) x, Tensor(b!) residual, Tensor weight, float eps, "
     "float offset=0.0) -> ()",
     R"(residual += x, then x = rms_norm of the residual.

Mutates x and residual [T, H]; weight [H], all of one dtype.)"},

    {"silu_and_mul(Tensor x) -> Tensor",
     R"(SiLU of the first half of each row of x [T, 2F], times the second half: [T, F].)"},

    {"silu_and_mul_out(Tensor x, Tensor(a!) out) -> ()",
     R"(silu_and_mul into a given tensor.

Mutates out.)"},

    {"gelu_tanh_and_mul(Tensor x) -> Tensor",
     R"(silu_and_mul with GELU, as tanh approximates it, in place of SiLU.)"},

    {"gelu_tanh_and_mul_out(Tensor x, Tensor(a!) out) -> ()",
     R"(gelu_tanh_and_mul into a given tensor.

Mutates out.)"},

    {"branch_attention(" SPECBRANCH_ATTENTION
     ", float scale, float softcap=0.0, int window=0, int split_size=0) "
     "-> (Tensor out, Tensor lse)",
     R"(Attention of all branches of a draft block over one shared context.

q [T, Hq, D], caches [P, S, Hkv, D], block_table int32 [B, M], context_lens and n_nodes
int32 [B], row_indptr int32 [B + 1], ancestor_mask int32 [T, W]. A request's rows, at most
n_nodes[b], are nodes of its block. A row sees the whole context of its request and the nodes
of its mask; with window > 0 only keys less than `window` positions before it. softcap > 0
turns a score s into softcap * tanh(s / softcap). Returns out [T, Hq, D] of q's dtype and the
natural log-sum-exp float32 [T, Hq]; a row that sees nothing gives 0 and -inf.

On a CPU the bits of a row depend on its query and the keys and values on its path alone: they
are those of plain decoding, whatever other rows there are, where the context ends and in which
slots its nodes lie. On CUDA they also depend on the shapes of the call and on the device,
unless split_size > 0, a multiple of 64 and at least M * S / 64, says how many keys are summed
apart: then they depend on the request alone.)"},

    {"branch_attention_out(" SPECBRANCH_ATTENTION
     ", float scale, float softcap, int window, int split_size, Tensor(a!) out, Tensor(b!) lse, "
     "Tensor(c!)? workspace=None) -> ()",
     R"(branch_attention into given tensors.

Mutates out, lse and the workspace.

On a CPU, too, it works in a workspace, whose size depends on all shapes; a given one that is
too small is refused with the size wanted.)"},

    {"compact_kv_(Tensor(a!)[] k_caches, Tensor(b!)[] v_caches, Tensor block_table, "
     "Tensor context_lens, Tensor keep, Tensor keep_lens) -> ()",
     R"(Moves position context_lens[b] + keep[b, i] to context_lens[b] + i, in every layer.

Mutates the caches, one [P, S, Hkv, D] a layer, all alike. keep int32 [B, J] is strictly
increasing over its first keep_lens[b] entries.)"},

    {"sampling_probs(Tensor logits, " SPECBRANCH_FILTER ") -> Tensor",
     R"(The law of the next token after temperature, top-k, top-p and min-p: float32 [R, V].

logits [R, V]; temperature, top_p, min_p float32 [R]; top_k int32 [R]. top_k 0, top_p 1 and
min_p 0 are off; temperature 0 is one-hot at the argmax, ties going to the lowest id.)"},

    {"sampling_probs_out(Tensor logits, " SPECBRANCH_FILTER ", Tensor(a!) probs, "
     "Tensor(b!)? workspace=None) -> ()",
     R"(sampling_probs into given tensors.

Mutates probs and the workspace.)"},

    {"sample(Tensor logits, " SPECBRANCH_DRAWS ", Tensor? allowed=None) -> Tensor",
     R"(One token a row, int32 [R]: argmax of logits / T + Gumbel noise over what the filters keep.

The noise is a function of seed int64 [R], position int32 [R] and the token alone. allowed
int32 [R, ceil(V / 32)], as xgrammar fills it: a token whose bit (token % 32 of word token / 32)
is 0 has no mass, and its logit does not matter.)"},

    {"sample_out(Tensor logits, " SPECBRANCH_DRAWS ", Tensor? allowed, Tensor(a!) ids, "
     "Tensor(b!)? workspace=None) -> ()",
     R"(sample into given tensors.

Mutates ids and the workspace.)"},

    {"draft_topk(Tensor logits, int k, " SPECBRANCH_DRAWS ", str coupling, Tensor? token_ids=None) "
     "-> (Tensor ids, Tensor estimates, Tensor max_prob, Tensor entropy)",
     R"(The draft's k guesses a row: ids int32 [R, k], estimates [R, k], max_prob [R], entropy [R].

coupling "gumbel": the k largest of z = logits / T + noise, where tokens outside the filter
lose 2, with estimates softmax(z). "rejection": k draws without replacement in their order,
with estimates their probability. token_ids int32 [V] maps a column to the target's id. -1
pads ids where fewer tokens have mass. max_prob and entropy (nats) are those of the law before
filtering.)"},

    {"draft_topk_out(Tensor logits, int k, " SPECBRANCH_DRAWS
     ", str coupling, Tensor? token_ids, Tensor(a!) ids, Tensor(b!) estimates, "
     "Tensor(c!) max_prob, Tensor(d!) entropy, Tensor(e!)? workspace=None) -> ()",
     R"(draft_topk into given tensors.

Mutates ids, estimates, max_prob, entropy and the workspace.)"},

    {"verify_tree(" SPECBRANCH_TREE ", " SPECBRANCH_DRAWS
     ", Tensor? draft_probs=None, Tensor? draw=None, Tensor? allowed=None) "
     "-> (Tensor path, Tensor path_len, Tensor next_token, Tensor winner, Tensor status)",
     R"(Walks each tree from its root as far as the target agrees, and names the next token.

candidates and parents int32 [B, N], with parents[b, 0] = -1 and parents[b, i] < i. The
submitted nodes come first: request b has row_indptr[b + 1] - row_indptr[b] of them, at most
n_nodes[b], and node i of them has row row_indptr[b] + i of target_logits [T, V]; row_indptr
int32 [B + 1] begins with 0 and does not fall. Rows from row_indptr[B] on are padding and
never read. A request is idle where n_nodes int32 [B] is 0 or no row is its own. temperature,
top_p, min_p float32 [B]; top_k int32 [B]; seed int64 [B]; position int32 [B] is that of the
token after the root.

Without draft_probs the coupling is "gumbel"; with draft_probs float32 [T, V] and draw uint8
[B, N] (0 a deterministic guess, 1, 2, ... the order of the draws) it is "rejection": the row
of a node is the law from which its children were drawn. allowed int32 [T, ceil(V / 32)] is that
of `sample` for each row.

Returns path int32 [B, N] (accepted nodes, root first, then -1), path_len, next_token, winner
(the node that is next_token, or -1) and status int32 [B]: 0, or 1 where a visited row holds
NaN or no finite mass. An idle request and one of status 1 have path_len 0, next_token -1 and
winner -1.)"},

    {"verify_tree_out(" SPECBRANCH_TREE ", " SPECBRANCH_DRAWS
     ", Tensor? draft_probs, Tensor? draw, Tensor? allowed, Tensor(a!) path, Tensor(b!) path_len, "
     "Tensor(c!) next_token, Tensor(d!) winner, Tensor(e!) status, Tensor(f!)? workspace=None) -> "
     "()",
     R"(verify_tree into given tensors.

Mutates path, path_len, next_token, winner, status and the workspace.)"},

    {"packed_linear(Tensor x, Tensor weight, int out_features, Tensor? bias=None) -> Tensor",
     R"(A linear layer with weights laid out for few rows, on a CPU alone: [R, N] in the dtype of x.

x [R, K]; weight [ceil(N / 32), K, 32] in that dtype, made by specbranch.loading.packing;
out_features is N; bias float32 [N]. A row is summed in float32, input by input.

The bits of a row depend on that row alone, whatever other rows and however many threads there
are.)"},

    {"packed_linear_out(Tensor x, Tensor weight, int out_features, Tensor? bias, "
     "Tensor(a!) out) -> ()",
     R"(packed_linear into a given tensor.

Mutates out.)"},

    {"quantized_linear(Tensor x, Tensor weight, int out_features, Tensor? bias=None) -> Tensor",
     R"(A linear layer with weights in 4 or 8 bits, on a CPU alone: [R, N] in the dtype of x.

x [R, K]; weight uint8 [ceil(N / 16), K / 32, 320 for 4 bits or 544 for 8], made by
specbranch.loading.packing; out_features is N; bias float32 [N]. Each row is rounded to 8 bits
in groups of 32 inputs, to a 127th of the group's largest magnitude; a group with a value that
is not finite gives NaN.

The bits of a row depend on that row alone, whatever other rows and however many threads there
are.)"},

    {"quantized_linear_out(Tensor x, Tensor weight, int out_features, Tensor? bias, "
     "Tensor(a!) out) -> ()",
     R"(quantized_linear into a given tensor.

Mutates out.)"},

    {"quantized_rows(Tensor weight, Tensor ids) -> Tensor",
     R"(Rows of a weight as quantized_linear multiplies by them, on a CPU alone: float32 [R, K].

weight as there; ids int32 [R]. An embedding in few bits.)"},

    {"quantized_rows_out(Tensor weight, Tensor ids, Tensor(a!) out) -> ()",
     R"(quantized_rows into a given tensor.

Mutates out.)"},
};

int torch_threads() { return static_cast<int>(torch::stable::get_num_threads()); }

/// As many threads as torch has here, but not torch's.
void install_threads() {
  set_parallel_backend({
      .parallel_for =
          [](int64_t begin, int64_t end, int64_t grain, ParallelBackend::Body body, void* context) {
            run_on_own_helpers(begin, end, grain, body, context, torch_threads());
          },
      .num_threads = torch_threads,
  });
}

}  // namespace

std::span<const Op> all_ops() { return kOps; }

}  // namespace specbranch

STABLE_TORCH_LIBRARY(specbranch, library) {
  for (const specbranch::Op& op : specbranch::all_ops()) library.def(op.schema);
  specbranch::install_threads();
}
