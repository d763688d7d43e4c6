"""The binary module: ops registered with torch as `specbranch::NAME`, and host-side functions.

B requests, N nodes, T rows of all requests, R rows of logits, Hq/Hkv heads, D head_dim,
V vocabulary, P pages of S slots, M table entries, W = ceil(N / 32) words. Indices, lengths and
positions are int32, seeds int64, -1 pads. Data (q, k, v, caches, logits) is float32, float16 or
bfloat16 with any strides and a contiguous last dimension; sums are float32. Wrong shapes, dtypes,
devices or strides raise ValueError. An `_out` form writes the tensors given and returns nothing.

Where an `_out` form takes a workspace, it is float32 scratch [size] on the device of the other
tensors, and nothing is allocated where it is given. On CUDA it is filled with zeros before its
first use; every call leaves it ready for the next one, so it serves any number of calls of all ops
that follow each other on a stream. NAME_workspace_size(...) says how many floats suffice for calls
of these sizes and of smaller ones (0 in a build for the CPU alone).

Rows of all requests stand one after another: those of request b are row_indptr[b] to
row_indptr[b + 1] of T, with row_indptr int32 [B + 1] on the device of the other tensors, from 0 on
and never decreasing. A request may have none. Rows from row_indptr[B] on are padding: nothing is
read or written for them, so what a functional form returns there is arbitrary.

Logical position i of a request lies in page block_table[b, i // S], slot i % S. Node i of its
draft block is stored at position context_lens[b] + i.
"""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

contract: int

def build_info() -> dict[str, str]:
    """What this binary was built from and for."""

def mix(seed: int, n: int) -> int:
    """A seed derived from a seed: the first two words of Philox at (n, 0, mix stream, 0)."""

def philox(seed: int, c0: int, c1: int, c2: int, c3: int) -> tuple[int, int, int, int]:
    """The four words of Philox4x32-10 for key = seed and this counter."""

def lend_cores(cores: Sequence[int]) -> None:
    """Numbers of cores that forwards in one call, of this thread, use beside its own while
    no other thread's is running. Replaces those that it was lent before.
    """

def branch_attention_workspace_size(head_dim: int, num_multiprocessors: int) -> int:
    """Floats of workspace that suffice on a GPU of so many multiprocessors, for this head_dim
    and smaller ones, whatever the other sizes are, in calls without a split_size.
    """

def sampling_probs_workspace_size(rows: int, vocab_size: int) -> int:
    """Floats of workspace that suffice for as many as these; the CPU needs none."""

def sample_workspace_size(rows: int, vocab_size: int) -> int:
    """Floats of workspace that suffice for as many as these; the CPU needs none."""

def draft_topk_workspace_size(rows: int, vocab_size: int) -> int:
    """Floats of workspace that suffice for as many as these; the CPU needs none."""

def verify_tree_workspace_size(batch_size: int, num_rows: int, vocab_size: int) -> int:
    """Floats of workspace that suffice for as many as these; the CPU needs none."""

def tree_mask(
    parents: Tensor, n_nodes: Tensor, row_indptr: Tensor, num_rows: int
) -> tuple[Tensor, Tensor]:
    """Who sees whom in a draft block. A request's rows are the last nodes of its block.

    parents int32 [B, N] with parents[b, 0] = -1 and parents[b, i] < i; n_nodes int32 [B], which
    no request has more rows than; row_indptr int32 [B + 1]; num_rows is T.
    Returns ancestor_mask int32 [T, W], bit j of a row set where j is the row's node or an ancestor
    of it, and depth int32 [T].

    A bad argument is a ValueError that names it: no tensor where one is wanted, or another shape,
    dtype, device or stride. Values are checked on a CPU alone. Gradients do not pass.
    """

def tree_mask_out(
    parents: Tensor, n_nodes: Tensor, row_indptr: Tensor, ancestor_mask: Tensor, depth: Tensor
) -> None:
    """tree_mask into given tensors.

    Mutates ancestor_mask and depth.

    A bad argument is a ValueError that names it: no tensor where one is wanted, or another shape,
    dtype, device or stride. Values are checked on a CPU alone. Gradients do not pass.
    """

def append_kv_(
    k: Tensor,
    v: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_table: Tensor,
    start: Tensor,
    row_indptr: Tensor,
) -> None:
    """Writes each request's rows of k, v [T, Hkv, D] to its positions from start[b] on.

    Mutates k_cache and v_cache [P, S, Hkv, D]; block_table int32 [B, M], start int32 [B],
    row_indptr int32 [B + 1].

    A bad argument is a ValueError that names it: no tensor where one is wanted, or another shape,
    dtype, device or stride. Values are checked on a CPU alone. Gradients do not pass.
    """

def rope_append_kv_(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_table: Tensor,
    start: Tensor,
    row_indptr: Tensor,
    position_ids: Tensor,
    cos: Tensor,
    sin: Tensor,
    q_norm: Tensor | None = None,
    k_norm: Tensor | None = None,
    eps: float = 0.0,
    offset: float = 0.0,
) -> None:
    """append_kv_ of keys that are rotated on their way, and queries that are rotated in place.

    Mutates q [T, Hq, D], k_cache and v_cache; k to row_indptr are those of append_kv_. Row t is
    rotated by row position_ids[t] of cos and sin, float32 [L, R / 2]: dimension i < R / 2 of a head
    with dimension i + R / 2; dimensions from R <= D <= 256 on stay, and R may be 0. position_ids
    int32 [T]. With q_norm and k_norm [D] each head is normalised before, as rms_norm does it.

    A bad argument is a ValueError that names it: no tensor where one is wanted, or another shape,
    dtype, device or stride. Values are checked on a CPU alone. Gradients do not pass.
    """

def rms_norm(x: Tensor, weight: Tensor, eps: float, offset: float = 0.0) -> Tensor:
    """Each row of x [T, H] / sqrt(mean(x^2) + eps) * (weight [H] + offset), all of one dtype.

    A bad argument is a ValueError that names it: no tensor where one is wanted, or another shape,
    dtype, device or stride. Values are checked on a CPU alone. Gradients do not pass.
    """

def rms_norm_out(x: Tensor, weight: Tensor, eps: float, offset: float, out: Tensor) -> None:
    """rms_norm into a given tensor.

    Mutates out, which may be x.

    A bad argument is a ValueError that names it: no tensor where one is wanted, or another shape,
    dtype, device or stride. Values are checked on a CPU alone. Gradients do not pass.
    """

def fused_add_rms_norm(
    x: Tensor, residual: Tensor, weight: Tensor, eps: float, offset: float = 0.0
) -> None:
    """residual += x, then x = rms_norm of the residual.

    Mutates x and residual [T, H]; weight [H], all of one dtype.

    A bad argument is a ValueError that names it: no tensor where one is wanted, or another shape,
    dtype, device or stride. Values are checked on a CPU alone. Gradients do not pass.
    """

def silu_and_mul(x: Tensor) -> Tensor:
    """SiLU of the first half of each row of x [T, 2F], times the second half: [T, F].

    A bad argument is a ValueError that names it: no tensor where one is wanted, or another shape,
    dtype, device or stride. Values are checked on a CPU alone. Gradients do not pass.
    """

def silu_and_mul_out(x: Tensor, out: Tensor) -> None:
    """silu_and_mul into a given tensor.

    Mutates out.

    A bad argument is a ValueError that names it: no tensor where one is wanted, or another shape,
    dtype, device or stride. Values are checked on a CPU alone. Gradients do not pass.
    """

def gelu_tanh_and_mul(x: Tensor) -> Tensor:
    """silu_and_mul with GELU, as tanh approximates it, in place of SiLU.

    A bad argument is a ValueError that names it: no tensor where one is wanted, or another shape,
    dtype, device or stride. Values are checked on a CPU alone. Gradients do not pass.
    """

def gelu_tanh_and_mul_out(x: Tensor, out: Tensor) -> None:
    """gelu_tanh_and_mul into a given tensor.

    Mutates out.

    A bad argument is a ValueError that names it: no tensor where one is wanted, or another shape,
    dtype, device or stride. Values are checked on a CPU alone. Gradients do not pass.
    """

def branch_attention(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_table: Tensor,
    context_lens: Tensor,
    n_nodes: Tensor,
    row_indptr: Tensor,
    ancestor_mask: Tensor,
    scale: float,
    softcap: float = 0.0,
    window: int = 0,
    split_size: int = 0,
) -> tuple[Tensor, Tensor]:
    """Attention of all branches of a draft block over one shared context.

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
    apart: then they depend on the request alone.

    A bad argument is a ValueError that names it: no tensor where one is wanted, or another shape,
    dtype, device or stride. Values are checked on a CPU alone. Gradients do not pass.
    """

def branch_attention_out(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_table: Tensor,
    context_lens: Tensor,
    n_nodes: Tensor,
    row_indptr: Tensor,
    ancestor_mask: Tensor,
    scale: float,
    softcap: float,
    window: int,
    split_size: int,
    out: Tensor,
    lse: Tensor,
    workspace: Tensor | None = None,
) -> None:
    """branch_attention into given tensors.

    Mutates out, lse and the workspace.

    On a CPU, too, it works in a workspace, whose size depends on all shapes; a given one that is
    too small is refused with the size wanted.

    A bad argument is a ValueError that names it: no tensor where one is wanted, or another shape,
    dtype, device or stride. Values are checked on a CPU alone. Gradients do not pass.
    """

def compact_kv_(
    k_caches: list[Tensor],
    v_caches: list[Tensor],
    block_table: Tensor,
    context_lens: Tensor,
    keep: Tensor,
    keep_lens: Tensor,
) -> None:
    """Moves position context_lens[b] + keep[b, i] to context_lens[b] + i, in every layer.

    Mutates the caches, one [P, S, Hkv, D] a layer, all alike. keep int32 [B, J] is strictly
    increasing over its first keep_lens[b] entries.

    A bad argument is a ValueError that names it: no tensor where one is wanted, or another shape,
    dtype, device or stride. Values are checked on a CPU alone. Gradients do not pass.
    """

def sampling_probs(
    logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor
) -> Tensor:
    """The law of the next token after temperature, top-k, top-p and min-p: float32 [R, V].

    logits [R, V]; temperature, top_p, min_p float32 [R]; top_k int32 [R]. top_k 0, top_p 1 and
    min_p 0 are off; temperature 0 is one-hot at the argmax, ties going to the lowest id.

    A bad argument is a ValueError that names it: no tensor where one is wanted, or another shape,
    dtype, device or stride. Values are checked on a CPU alone. Gradients do not pass.
    """

def sampling_probs_out(
    logits: Tensor,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    min_p: Tensor,
    probs: Tensor,
    workspace: Tensor | None = None,
) -> None:
    """sampling_probs into given tensors.

    Mutates probs and the workspace.

    A bad argument is a ValueError that names it: no tensor where one is wanted, or another shape,
    dtype, device or stride. Values are checked on a CPU alone. Gradients do not pass.
    """

def sample(
    logits: Tensor,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    min_p: Tensor,
    seed: Tensor,
    position: Tensor,
    allowed: Tensor | None = None,
) -> Tensor:
    """One token a row, int32 [R]: argmax of logits / T + Gumbel noise over what the filters keep.

    The noise is a function of seed int64 [R], position int32 [R] and the token alone. allowed
    int32 [R, ceil(V / 32)], as xgrammar fills it: a token whose bit (token % 32 of word token / 32)
    is 0 has no mass, and its logit does not matter.

    A bad argument is a ValueError that names it: no tensor where one is wanted, or another shape,
    dtype, device or stride. Values are checked on a CPU alone. Gradients do not pass.
    """

def sample_out(
    logits: Tensor,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    min_p: Tensor,
    seed: Tensor,
    position: Tensor,
    allowed: Tensor | None,
    ids: Tensor,
    workspace: Tensor | None = None,
) -> None:
    """sample into given tensors.

    Mutates ids and the workspace.

    A bad argument is a ValueError that names it: no tensor where one is wanted, or another shape,
    dtype, device or stride. Values are checked on a CPU alone. Gradients do not pass.
    """

def draft_topk(
    logits: Tensor,
    k: int,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    min_p: Tensor,
    seed: Tensor,
    position: Tensor,
    coupling: str,
    token_ids: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The draft's k guesses a row: ids int32 [R, k], estimates [R, k], max_prob [R], entropy [R].

    coupling "gumbel": the k largest of z = logits / T + noise, where tokens outside the filter
    lose 2, with estimates softmax(z). "rejection": k draws without replacement in their order,
    with estimates their probability. token_ids int32 [V] maps a column to the target's id. -1
    pads ids where fewer tokens have mass. max_prob and entropy (nats) are those of the law before
    filtering.

    A bad argument is a ValueError that names it: no tensor where one is wanted, or another shape,
    dtype, device or stride. Values are checked on a CPU alone. Gradients do not pass.
    """

def draft_topk_out(
    logits: Tensor,
    k: int,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    min_p: Tensor,
    seed: Tensor,
    position: Tensor,
    coupling: str,
    token_ids: Tensor | None,
    ids: Tensor,
    estimates: Tensor,
    max_prob: Tensor,
    entropy: Tensor,
    workspace: Tensor | None = None,
) -> None:
    """draft_topk into given tensors.

    Mutates ids, estimates, max_prob, entropy and the workspace.

    A bad argument is a ValueError that names it: no tensor where one is wanted, or another shape,
    dtype, device or stride. Values are checked on a CPU alone. Gradients do not pass.
    """

def verify_tree(
    candidates: Tensor,
    parents: Tensor,
    n_nodes: Tensor,
    row_indptr: Tensor,
    target_logits: Tensor,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    min_p: Tensor,
    seed: Tensor,
    position: Tensor,
    draft_probs: Tensor | None = None,
    draw: Tensor | None = None,
    allowed: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Walks each tree from its root as far as the target agrees, and names the next token.

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
    winner -1.

    A bad argument is a ValueError that names it: no tensor where one is wanted, or another shape,
    dtype, device or stride. Values are checked on a CPU alone. Gradients do not pass.
    """

def verify_tree_out(
    candidates: Tensor,
    parents: Tensor,
    n_nodes: Tensor,
    row_indptr: Tensor,
    target_logits: Tensor,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    min_p: Tensor,
    seed: Tensor,
    position: Tensor,
    draft_probs: Tensor | None,
    draw: Tensor | None,
    allowed: Tensor | None,
    path: Tensor,
    path_len: Tensor,
    next_token: Tensor,
    winner: Tensor,
    status: Tensor,
    workspace: Tensor | None = None,
) -> None:
    """verify_tree into given tensors.

    Mutates path, path_len, next_token, winner, status and the workspace.

    A bad argument is a ValueError that names it: no tensor where one is wanted, or another shape,
    dtype, device or stride. Values are checked on a CPU alone. Gradients do not pass.
    """

def packed_linear(
    x: Tensor, weight: Tensor, out_features: int, bias: Tensor | None = None
) -> Tensor:
    """A linear layer with weights laid out for few rows, on a CPU alone: [R, N] in the dtype of x.

    x [R, K]; weight [ceil(N / 32), K, 32] in that dtype, made by specbranch.loading.packing;
    out_features is N; bias float32 [N]. A row is summed in float32, input by input.

    The bits of a row depend on that row alone, whatever other rows and however many threads there
    are.

    A bad argument is a ValueError that names it: no tensor where one is wanted, or another shape,
    dtype, device or stride. Values are checked on a CPU alone. Gradients do not pass.
    """

def packed_linear_out(
    x: Tensor, weight: Tensor, out_features: int, bias: Tensor | None, out: Tensor
) -> None:
    """packed_linear into a given tensor.

    Mutates out.

    A bad argument is a ValueError that names it: no tensor where one is wanted, or another shape,
    dtype, device or stride. Values are checked on a CPU alone. Gradients do not pass.
    """

def quantized_linear(
    x: Tensor, weight: Tensor, out_features: int, bias: Tensor | None = None
) -> Tensor:
    """A linear layer with weights in 4 or 8 bits, on a CPU alone: [R, N] in the dtype of x.

    x [R, K]; weight uint8 [ceil(N / 16), K / 32, 320 for 4 bits or 544 for 8], made by
    specbranch.loading.packing; out_features is N; bias float32 [N]. Each row is rounded to 8 bits
    in groups of 32 inputs, to a 127th of the group's largest magnitude; a group with a value that
    is not finite gives NaN.

    The bits of a row depend on that row alone, whatever other rows and however many threads there
    are.

    A bad argument is a ValueError that names it: no tensor where one is wanted, or another shape,
    dtype, device or stride. Values are checked on a CPU alone. Gradients do not pass.
    """

def quantized_linear_out(
    x: Tensor, weight: Tensor, out_features: int, bias: Tensor | None, out: Tensor
) -> None:
    """quantized_linear into a given tensor.

    Mutates out.

    A bad argument is a ValueError that names it: no tensor where one is wanted, or another shape,
    dtype, device or stride. Values are checked on a CPU alone. Gradients do not pass.
    """

def quantized_rows(weight: Tensor, ids: Tensor) -> Tensor:
    """Rows of a weight as quantized_linear multiplies by them, on a CPU alone: float32 [R, K].

    weight as there; ids int32 [R]. An embedding in few bits.

    A bad argument is a ValueError that names it: no tensor where one is wanted, or another shape,
    dtype, device or stride. Values are checked on a CPU alone. Gradients do not pass.
    """

def quantized_rows_out(weight: Tensor, ids: Tensor, out: Tensor) -> None:
    """quantized_rows into a given tensor.

    Mutates out.

    A bad argument is a ValueError that names it: no tensor where one is wanted, or another shape,
    dtype, device or stride. Values are checked on a CPU alone. Gradients do not pass.
    """

# The speculation tree of a request: arrays of plain numbers behind node ids, and what verification
# taught about guesses. Bad arguments raise ValueError and leave the tree as it was.

class Reliability:
    """The chance that a guess is right, by its rank and its prior chance: the draft's own
    estimates, corrected by what was verified (see Tree.teach).

    Of first guesses each bucket of prior chances knows how many were tested and how many held: the
    chance is the posterior mean of that rate, under a Beta prior that is worth `strength` guesses
    and has the chance that the draft's kind makes of the guess's own as its mean. A draft of one
    kind means what it says. One of the other, a copy of the target at less precision, shares the
    target's doubts: it is wrong a twentieth as often as it says. The mean is over both kinds, and
    every guess tested tells how likely each is; `copy_odds` are those of a copy before that.

    Further guesses share what the first one leaves. Their prior chances reach from tenths to almost
    nothing and are scaled by (right + s) / (expected + s): right counts those that held, expected
    sums the chances that the prior gave them. This is the posterior mean of a Poisson rate under a
    Gamma prior of mean 1.

    All are defined from the start, and keep the order of guesses within a bucket.
    """

    def __init__(
        self, coupling: str = "gumbel", strength: float = 3.0, copy_odds: float = 0.25
    ) -> None: ...
    def priors(self, estimates: Sequence[float]) -> list[float]:
        """Prior chances of a node's guesses from the draft's estimates.

        Of ranked guesses (gumbel) they are the estimates, 1 at most. Drawn ones (rejection) are
        tested one after another, and a draw of small probability is far more often right than that
        says: of a token whose q is near zero the target's p is mostly larger.
        """

    def chances(self, priors: Sequence[float]) -> list[float]:
        """Chances of a node's guesses, best (or first drawn) first, from their prior chances.

        At most one guess is right, so they sum to 1 at most, and each is at most 1.
        """

class Tree:
    """The speculation tree of one request: guessed continuations of the last committed token, its
    root, re-rooted every round at the newest one.

    Nodes are numbered in the order in which they joined: the root is 0, parents come before their
    children. An id holds until the next reroot, which closes the gaps. A node is expanded once the
    draft has computed its law and its KV, which it can after the node's parent. Its children are
    the draft's guesses, and matched ones, which need no draft: any node may have those. A terminal
    node ends the request if it is reached: it is never expanded or submitted.

    ends: tokens that end the request. remaining: tokens that may still be committed; a guess at
    this depth ends the request too. Both say so of nodes when they are attached.
    """

    def __init__(
        self,
        root_token: int,
        *,
        coupling: str = "gumbel",
        ends: Collection[int] = (),
        remaining: int = 2**31 - 1,
    ) -> None: ...
    remaining: int
    num_expanded: int

    # Columns: a fresh copy at each access, with a value for each node.
    @property
    def token(self) -> NDArray[np.int32]: ...
    @property
    def parent(self) -> NDArray[np.int32]:
        """-1 of the root."""

    @property
    def depth(self) -> NDArray[np.int32]:
        """Edges from the root."""

    @property
    def slot(self) -> NDArray[np.int32]:
        """Place in the draft's block, -1 while unexpanded."""

    @property
    def first_child(self) -> NDArray[np.int32]:
        """The first of `children`, -1 without."""

    @property
    def estimate(self) -> NDArray[np.float64]:
        """Chance that decoding passes through a node, given the root; never above its parent's."""

    @property
    def prior(self) -> NDArray[np.float64]:
        """Chance of a guess given its parent, before reliability."""

    @property
    def max_prob(self) -> NDArray[np.float64]:
        """Maximum of the draft's law at a node, 0 while unexpanded."""

    @property
    def first_chance(self) -> NDArray[np.float64]:
        """Chance that the first guess at a node is right, 0 without; under rejection max_prob of an
        expanded one, for there a fan may not look at the draws."""

    @property
    def entropy(self) -> NDArray[np.float64]:
        """Of the draft's law at a node, in nats, 0 while unexpanded."""

    @property
    def draw(self) -> NDArray[np.uint8]:
        """n for the n-th draw from the parent's law, 0 for a deterministic guess."""

    @property
    def rank(self) -> NDArray[np.int32]:
        """Among the draft's guesses at the parent, -1 of a matched one."""

    @property
    def on_main_line(self) -> NDArray[np.bool_]:
        """Whether a node is the first child all the way from the root."""

    @property
    def terminal(self) -> NDArray[np.bool_]: ...

    # Values of some nodes, as plain numbers: for a few nodes cheaper than a column.
    def tokens(self, nodes: Sequence[int]) -> list[int]: ...
    def slots(self, nodes: Sequence[int]) -> list[int]: ...
    def ranks(self, nodes: Sequence[int]) -> list[int]: ...
    def first_children(self, nodes: Sequence[int]) -> list[int]: ...
    def estimates(self, nodes: Sequence[int]) -> list[float]: ...
    def first_chances(self, nodes: Sequence[int]) -> list[float]: ...
    def __len__(self) -> int:
        """Nodes."""

    @property
    def submitted(self) -> list[int]:
        """The nodes that the target is working on, in the order of its rows; [] while idle."""

    def children(self, node: int) -> list[int]:
        """Best first: in the draft's ranking, but likeliest first where some are matched; draws
        always in their order, before matched ones."""

    def main_line(self, top: int = 0) -> list[int]:
        """`top` and the first children below it."""

    def first_guess(self, node: int) -> int:
        """The child that is the draft's own first guess, -1 without."""

    def path(self, node: int) -> list[int]:
        """The nodes from below the root down to `node`."""

    def expandable(self, node: int) -> bool:
        """Whether the draft could expand it: neither expanded nor terminal."""

    def frontier(self, count: int) -> list[int]:
        """The `count` expandable nodes of highest estimate, likeliest first, ties by id."""

    def likeliest(self, count: int) -> list[int]:
        """The `count` nodes of highest estimate that could be submitted, likeliest first, ties by
        id: a subtree at the root, parents first, for estimates never grow along a path."""

    def growable(self, nodes: Sequence[int], max_expanded: int) -> list[int]:
        """The first of `nodes` that are not terminal, each behind its unexpanded ancestors, so many
        that `max_expanded` nodes of the tree are expanded with them.

        Raises ValueError unless all of them are distinct and unexpanded.
        """

    def expand(
        self,
        nodes: Sequence[int],
        ids: NDArray[np.int32],
        estimates: NDArray[np.float32],
        max_prob: NDArray[np.float32],
        entropy: NDArray[np.float32],
        first_row: int,
        reliability: Reliability,
    ) -> None:
        """Note what a draft step says of `nodes`, as `draft_topk` gives it for R rows.

        The i-th node takes the i-th free slot and row first_row + i: ids and estimates [R, k],
        where -1 ends the guesses, max_prob and entropy [R]; all contiguous, k up to 255; NaN counts
        as 0. The guesses wait for `attach`; those of an earlier step that still wait are dropped.
        """

    def attach(self, fans: Sequence[int]) -> None:
        """The first fans[i] guesses of the i-th node of the last `expand` become its children; one
        that is a matched child already keeps what is below it."""

    def match(self, node: int, tokens: Sequence[int], chances: Sequence[float]) -> list[int]:
        """Deterministic guesses and their chances become matched children of a node, but those that
        are its children already. Returns the children that carry them.

        Of a token that both guess the log-odds of its chances are averaged; a matched guess that
        the draft does not have among its own gets its share of what these leave.
        Raises ValueError for a terminal node.
        """

    def submit(self, nodes: Sequence[int], max_rows: int) -> list[int]:
        """Take as the target's rows the first `max_rows` of `nodes` that are not terminal.

        Raises ValueError unless these are a subtree at the root, parents first.
        """

    def rows(self) -> tuple[list[int], list[int]]:
        """Tokens of the submitted nodes and their parents' rows, -1 for the root."""

    def draft_rows(self, nodes: Sequence[int]) -> tuple[list[int], list[int]]:
        """Tokens of nodes that are about to take the next slots, and their parents' slots, -1 for
        the root."""

    def question_size(self) -> int:
        """Nodes that verification asks about: the submitted ones and their other children."""

    def answer(self, path: Sequence[int], winner: int) -> tuple[list[int], int]:
        """The walk that `verify_tree` found, its path and its winner or -1, in node ids.

        The arguments are places in the order that `write_questions` wrote. The other methods take
        a walk in node ids.
        """

    def teach(self, path: Sequence[int], winner: int, reliability: Reliability) -> None:
        """Teach how the guesses at the nodes of the path turned out: all of them were tested."""

    def keep(self, path: Sequence[int], winner: int) -> tuple[list[int], int]:
        """Slots that the draft keeps, strictly increasing, and how many of them are context.

        These are the path's expanded nodes; what follows lives on below the winner.
        """

    def reroot(self, path: Sequence[int], winner: int, token: int) -> tuple[int, int]:
        """Make `winner`, or a fresh node for `token` if it is -1, the new root.

        What is below the winner lives on with new ids, depths and estimates relative to the new
        root, and slots from 0 on in their old order. The target is idle again. Returns how many
        nodes were dropped on the main line and off it, the path excepted.
        """

def write_questions(
    trees: Sequence[Tree],
    candidates: NDArray[np.int32],
    parents: NDArray[np.int32],
    n_nodes: NDArray[np.int32],
    draw: NDArray[np.uint8],
) -> None:
    """Write what `verify_tree` is asked about each tree: its submitted nodes in the order of their
    rows, then their other children by parent's row and rank.

    Mutates candidates, parents (places in this order) and draw [B, N] in the first rows and
    columns, and n_nodes [B], which becomes 0 for requests beyond the trees; all contiguous.
    """

# The whole forward of a decoder on a CPU in one call, which holds no interpreter lock. Its parts
# keep the tensors that they are given and share them. Bad arguments raise ValueError.

class Linear:
    """A product of rows with one matrix of weights, plus a bias. The bits of a row's result depend
    on that row alone."""

class PackedLinear(Linear):
    """Weights as `packed_linear` reads them, of the dtype of the rows.

    Raises ValueError for a weight or bias that does not fit.
    """

    def __init__(self, *, weight: Tensor, out_features: int, bias: Tensor | None) -> None: ...

class QuantizedLinear(Linear):
    """Weights in 4 or 8 bits, as `quantized_linear` reads them.

    weight: uint8 [ceil(out_features / 16), in_features / 32, bytes of a group]. bias: float32
    [out_features]. dtype: of the rows, "float32", "float16" or "bfloat16".
    """

    def __init__(
        self, *, weight: Tensor, out_features: int, bias: Tensor | None, dtype: str
    ) -> None: ...

class SideBySide(Linear):
    """Several products of the same rows, their results side by side."""

    def __init__(self, parts: Sequence[Linear]) -> None: ...

class RmsNorm:
    """x / sqrt(mean(x^2) + eps) * (weight + offset); weight [width] in the model's dtype."""

    def __init__(self, *, weight: Tensor, eps: float, offset: float) -> None: ...

class Rope:
    """Rotates dimension i with i + R / 2 by the angles of cos and sin, float32 [positions, R / 2];
    dimensions from R on stay."""

    def __init__(self, cos: Tensor, sin: Tensor) -> None: ...

class DecoderLayer:
    """One layer: norm, attention, residual, norm, gated MLP, residual.

    attention_norm, mlp_norm: of what attention and MLP read. attention_post_norm, mlp_post_norm: of
    their results, before those are added. q_norm, k_norm: of each head. qkv: queries, keys and
    values side by side; gate_up: gates, then what they gate. rope: None where nothing is rotated.
    scale, softcap, window: of attention; 0 for no cap and no window. k_cache, v_cache
    [P, S, Hkv, D]: where keys and values go; all layers' are laid out alike.
    """

    def __init__(
        self,
        *,
        attention_norm: RmsNorm,
        mlp_norm: RmsNorm,
        attention_post_norm: RmsNorm | None,
        mlp_post_norm: RmsNorm | None,
        q_norm: RmsNorm | None,
        k_norm: RmsNorm | None,
        qkv: Linear,
        o: Linear,
        gate_up: Linear,
        down: Linear,
        rope: Rope | None,
        scale: float,
        softcap: float,
        window: int,
        k_cache: Tensor,
        v_cache: Tensor,
    ) -> None: ...

class Decoder:
    """A decoder that computes new nodes of draft blocks, in the dtype of its caches.

    embedding [V, H], of any floating dtype, times embedding_scale; norm: of what the head reads;
    softcap: of logits, 0 for none; activation: "silu" or "gelu_tanh".
    """

    def __init__(
        self,
        *,
        embedding: Tensor,
        embedding_scale: float,
        layers: Sequence[DecoderLayer],
        norm: RmsNorm,
        head: Linear,
        softcap: float,
        activation: str,
    ) -> None: ...
    def run(
        self,
        tokens: Tensor,
        position_ids: Tensor,
        row_indptr: Tensor,
        context_lens: Tensor,
        start: Tensor,
        n_nodes: Tensor,
        block_table: Tensor,
        parents: Tensor,
        logits_rows: Tensor,
        ancestor_mask: Tensor,
        depth: Tensor,
        logits: Tensor,
        features: Tensor | None,
    ) -> None:
        """One forward over T rows of B requests, the last nodes of their blocks.

        tokens, position_ids int32 [1, T]; row_indptr int32 [B + 1], without padding; context_lens,
        start (the position of each request's first row), n_nodes int32 [B]; block_table int32
        [B, M]; parents int32 [B, N]; logits_rows int32 [k], the rows whose logits are wanted.

        Mutates the caches, ancestor_mask int32 [T, W], depth int32 [T], logits [k, columns of the
        head] and features [T, layers * H], the outputs of the last layers, the earliest first. The
        bits of a row's results depend on the tokens of its own path alone. One forward of a decoder
        runs at a time.
        """
