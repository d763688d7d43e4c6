"""The draft block and its KV cache: tree mask, append, attention over branches, compaction."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def tree_mask(parents: Tensor, n_nodes: Tensor) -> tuple[Tensor, Tensor]:
    """Ancestor bits and depths of a draft block.

    parents [B, N] (-1 for node 0, otherwise smaller than the node), n_nodes [B]
    -> ancestor_mask [B, N, W], depth [B, N].
    Bit j of row i is set if node j is i or one of its ancestors; the root has depth 0.
    Rows from n_nodes on have no bits and depth 0.
    """
    B, N = parents.shape
    bits = torch.zeros(B, N, -(-N // 32) * 32, dtype=torch.int64)
    depth = torch.zeros(B, N, dtype=torch.int32)
    for b in range(B):
        for node in range(int(n_nodes[b])):
            parent = int(parents[b, node])
            if parent >= 0:
                bits[b, node] = bits[b, parent]
                depth[b, node] = depth[b, parent] + 1
            bits[b, node, node] = 1
    words = (bits.reshape(B, N, -1, 32) << torch.arange(32)).sum(-1)
    return words.to(torch.int32), depth  # the cast keeps the low 32 bits


def _locate(positions: Tensor, block_table: Tensor, page_size: int) -> tuple[Tensor, Tensor]:
    """Page and slot of one request's logical positions; block_table [M]."""
    return block_table[positions // page_size].long(), positions % page_size


def append_kv_(
    k: Tensor,
    v: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_table: Tensor,
    start: Tensor,
    n_tokens: Tensor,
) -> None:
    """Write the first n_tokens[b] of k, v [B, T, Hkv, D] to logical positions from start[b] on.

    k_cache, v_cache [P, S, Hkv, D] (mutated), block_table [B, M], start [B], n_tokens [B].
    """
    for b in range(k.shape[0]):
        n = int(n_tokens[b])
        where = _locate(start[b] + torch.arange(n), block_table[b], k_cache.shape[1])
        k_cache[where] = k[b, :n]
        v_cache[where] = v[b, :n]


def branch_attention(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_table: Tensor,
    context_lens: Tensor,
    n_nodes: Tensor,
    ancestor_mask: Tensor,
    scale: float,
    softcap: float = 0.0,
    window: int = 0,
) -> tuple[Tensor, Tensor]:
    """Attention of each row over the context that all rows share and over its own ancestors.

    q [B, Q, Hq, D], k_cache, v_cache [P, S, Hkv, D], block_table [B, M], context_lens [B],
    n_nodes [B] (nodes of the block so far), ancestor_mask [B, Q, W]
    -> out [B, Q, Hq, D], lse [B, Q, Hq] (natural logarithm).

    Node j's KV lies at logical position context_lens + j. A row sees the whole context and the
    nodes of its mask; with window > 0 only keys with row position - key position < window, where
    positions are counted along the row's own path. A row that sees nothing gets out 0, lse -inf.
    Scores are scale * q.k; with softcap > 0, softcap * tanh(scale * q.k / softcap).
    """
    B, Q, Hq, D = q.shape
    page_size, Hkv = k_cache.shape[1:3]
    out = torch.zeros(B, Q, Hq, D, dtype=torch.float64)
    lse = torch.full((B, Q, Hq), -math.inf, dtype=torch.float64)
    for b in range(B):
        context_len = int(context_lens[b])
        for row in range(Q):
            bits = (ancestor_mask[b, row, :, None] >> torch.arange(32)) & 1
            nodes = bits.flatten()[: int(n_nodes[b])].nonzero().flatten()
            # In order of position, each visible key is one position after the one before it.
            keys = torch.cat([torch.arange(context_len), context_len + nodes])
            if window > 0:
                keys = keys[-window:]
            if len(keys) == 0:
                continue
            where = _locate(keys, block_table[b], page_size)
            k = k_cache[where].double().repeat_interleave(Hq // Hkv, dim=1)
            v = v_cache[where].double().repeat_interleave(Hq // Hkv, dim=1)
            scores = scale * torch.einsum("hd,khd->hk", q[b, row].double(), k)
            if softcap > 0:
                scores = softcap * torch.tanh(scores / softcap)
            lse[b, row] = scores.logsumexp(-1)
            out[b, row] = torch.einsum("hk,khd->hd", scores.softmax(-1), v)
    return out, lse


def compact_kv_(
    k_caches: Sequence[Tensor],
    v_caches: Sequence[Tensor],
    block_table: Tensor,
    context_lens: Tensor,
    keep: Tensor,
    keep_lens: Tensor,
) -> None:
    """Keep some nodes of each block: logical position context + keep[i] moves to context + i.

    k_caches, v_caches: a [P, S, Hkv, D] a layer (mutated), block_table [B, M], context_lens [B],
    keep [B, J] whose first keep_lens[b] entries increase strictly, keep_lens [B].
    """
    page_size = k_caches[0].shape[1]
    for b in range(keep.shape[0]):
        n = int(keep_lens[b])
        source = _locate(context_lens[b] + keep[b, :n], block_table[b], page_size)
        target = _locate(context_lens[b] + torch.arange(n), block_table[b], page_size)
        for cache in (*k_caches, *v_caches):
            cache[target] = cache[source]
