"""The binary module: ops registered with torch as `specbranch::NAME`, and host-side functions.

B requests, N nodes, T rows of all requests, R rows of logits, Hq/Hkv heads, D head_dim,
V vocabulary, P pages of S slots, M table entries, W = ceil(N / 32) words. Indices, lengths and
positions are int32, seeds int64, -1 pads. Data (q, k, v, caches, logits) is float32, float16 or
bfloat16 with any strides and a contiguous last dimension; sums are float32. Wrong shapes, dtypes,
devices or strides raise ValueError. An `_out` form writes the tensors given and returns nothing.

Where an `_out` form takes a workspace, it is float32 scratch [size] on the device of the other
tensors, and nothing is allocated where it is given. On CUDA it is filled with zeros before its
first use; every call leaves it ready for the next one, so it serves any number of calls of one op
that follow each other on a stream. NAME_workspace_size(...) says how many floats suffice for calls
of these sizes and of smaller ones (0 in a build for the CPU alone).

Rows of all requests stand one after another: those of request b are row_indptr[b] to
row_indptr[b + 1] of T, with row_indptr int32 [B + 1] on the device of the other tensors, from 0 on
and never decreasing. A request may have none. Rows from row_indptr[B] on are padding: nothing is
read or written for them, so what a functional form returns there is arbitrary.

Logical position i of a request lies in page block_table[b, i // S], slot i % S. Node i of its
draft block is stored at position context_lens[b] + i.
"""

from torch import Tensor

def tree_mask(
    parents: Tensor, n_nodes: Tensor, row_indptr: Tensor, num_rows: int
) -> tuple[Tensor, Tensor]:
    """Who sees whom in a draft block. A request's rows are the last nodes of its block.

    parents int32 [B, N] with parents[b, 0] = -1 and parents[b, i] < i; n_nodes int32 [B], which
    no request has more rows than; row_indptr int32 [B + 1]; num_rows is T.
    Returns ancestor_mask int32 [T, W], bit j of a row set where j is the row's node or an ancestor
    of it, and depth int32 [T].
    """

def tree_mask_out(
    parents: Tensor, n_nodes: Tensor, row_indptr: Tensor, ancestor_mask: Tensor, depth: Tensor
) -> None: ...
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
    slots its nodes lie.
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
    out: Tensor,
    lse: Tensor,
    workspace: Tensor | None = None,
) -> None:
    """branch_attention into given tensors.

    On a CPU, too, it works in a workspace, whose size depends on all shapes; a given one that is
    too small is refused with the size wanted.
    """

def branch_attention_workspace_size(head_dim: int, num_multiprocessors: int) -> int:
    """Suffices on a GPU of so many multiprocessors whatever the other sizes are."""

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
    """

def sampling_probs(
    logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor
) -> Tensor:
    """The law of the next token after temperature, top-k, top-p and min-p: float32 [R, V].

    logits [R, V]; temperature, top_p, min_p float32 [R]; top_k int32 [R]. top_k 0, top_p 1 and
    min_p 0 are off; temperature 0 is one-hot at the argmax, ties going to the lowest id.
    """

def sampling_probs_out(
    logits: Tensor,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    min_p: Tensor,
    probs: Tensor,
    workspace: Tensor | None = None,
) -> None: ...
def sampling_probs_workspace_size(rows: int, vocab_size: int) -> int: ...
def sample(
    logits: Tensor,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    min_p: Tensor,
    seed: Tensor,
    position: Tensor,
) -> Tensor:
    """One token a row, int32 [R]: argmax of logits / T + Gumbel noise over the allowed tokens.

    The noise is a function of seed int64 [R], position int32 [R] and the token alone.
    """

def sample_out(
    logits: Tensor,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    min_p: Tensor,
    seed: Tensor,
    position: Tensor,
    ids: Tensor,
    workspace: Tensor | None = None,
) -> None: ...
def sample_workspace_size(rows: int, vocab_size: int) -> int: ...
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
) -> None: ...
def draft_topk_workspace_size(rows: int, vocab_size: int) -> int: ...
def verify_tree(
    candidates: Tensor,
    parents: Tensor,
    n_nodes: Tensor,
    n_rows: Tensor,
    target_logits: Tensor,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    min_p: Tensor,
    seed: Tensor,
    position: Tensor,
    draft_probs: Tensor | None = None,
    draw: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Walks each tree from its root as far as the target agrees, and names the next token.

    candidates and parents int32 [B, N], submitted nodes first: node i < n_rows[b] has row i of
    target_logits [B, rows, V]. position[b] is that of the token after the root. Without
    draft_probs the coupling is "gumbel"; with draft_probs float32 [B, rows, V] and draw
    uint8 [B, N] (0 a deterministic guess, 1, 2, ... the order of the draws) it is "rejection".
    Returns path int32 [B, N] (accepted nodes, root first), path_len [B], next_token [B],
    winner [B] (the node that is next_token, or -1) and status [B]: 0, or 1 where a visited row
    holds NaN or no finite mass.
    """

def verify_tree_out(
    candidates: Tensor,
    parents: Tensor,
    n_nodes: Tensor,
    n_rows: Tensor,
    target_logits: Tensor,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    min_p: Tensor,
    seed: Tensor,
    position: Tensor,
    draft_probs: Tensor | None,
    draw: Tensor | None,
    path: Tensor,
    path_len: Tensor,
    next_token: Tensor,
    winner: Tensor,
    status: Tensor,
    workspace: Tensor | None = None,
) -> None: ...
def verify_tree_workspace_size(batch_size: int, rows: int, vocab_size: int) -> int: ...
def mix(seed: int, n: int) -> int:
    """A seed derived from a seed: the first two words of Philox at (n, 0, mix stream, 0)."""

def philox(seed: int, c0: int, c1: int, c2: int, c3: int) -> tuple[int, int, int, int]:
    """The four words of Philox4x32-10 for key = seed and this counter."""

def build_info() -> dict[str, str]:
    """What this binary was built from and for."""
