"""The draft block and its KV cache: tree mask, append, attention over branches, compaction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor


def rows_of(row_indptr: Tensor) -> list[range]:
    """The rows of each request, of all requests' rows one after another; row_indptr [B + 1]."""
    bounds = row_indptr.tolist()
    return [range(start, end) for start, end in pairwise(bounds)]


def tree_mask(
    parents: Tensor, n_nodes: Tensor, row_indptr: Tensor, num_rows: int
) -> tuple[Tensor, Tensor]:
    """Ancestor bits and depths of the last nodes of each draft block.

    parents [B, N] (-1 for node 0, otherwise smaller than the node), n_nodes [B],
    row_indptr [B + 1], num_rows T -> ancestor_mask [T, W], depth [T].
    Rows row_indptr[b] to row_indptr[b + 1] are the last nodes of request b. Bit j of a row is set
    if node j is the row's own or one of its ancestors; the root has depth 0.
    Rows from row_indptr[B] on have no bits and depth 0.
    """
    N = parents.shape[1]
    bits = torch.zeros(num_rows, -(-N // 32) * 32, dtype=torch.int64)
    depth = torch.zeros(num_rows, dtype=torch.int32)
    for b, rows in enumerate(rows_of(row_indptr)):
        for row in rows:
            node = int(n_nodes[b]) - rows.stop + row
            path = []
            while node >= 0:
                path.append(node)
                node = int(parents[b, node])
            bits[row, path] = 1
            depth[row] = len(path) - 1
    words = (bits.reshape(num_rows, -(-N // 32), 32) << torch.arange(32)).sum(-1)
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
    row_indptr: Tensor,
) -> None:
    """Write each request's rows of k, v [T, Hkv, D] to its logical positions from start[b] on.

    k_cache, v_cache [P, S, Hkv, D] (mutated), block_table [B, M], start [B], row_indptr [B + 1].
    """
    for b, rows in enumerate(rows_of(row_indptr)):
        positions = start[b] + torch.arange(len(rows))
        where = _locate(positions, block_table[b], k_cache.shape[1])
        k_cache[where] = k[rows.start : rows.stop]
        v_cache[where] = v[rows.start : rows.stop]


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
    """Attention of each row over the context that all rows share and over its own ancestors.

    q [T, Hq, D], k_cache, v_cache [P, S, Hkv, D], block_table [B, M], context_lens [B],
    n_nodes [B] (nodes of the block so far), row_indptr [B + 1] (which rows are which request's),
    ancestor_mask [T, W] -> out [T, Hq, D], lse [T, Hq] (natural logarithm).

    Node j's KV lies at logical position context_lens + j. A row sees the whole context and the
    nodes of its mask; with window > 0 only keys with row position - key position < window, where
    positions are counted along the row's own path. A row that sees nothing gets out 0, lse -inf,
    as do rows from row_indptr[B] on.
    Scores are scale * q.k; with softcap > 0, softcap * tanh(scale * q.k / softcap). split_size says
    how a device sums and changes nothing here.
    """
    T, Hq, D = q.shape
    page_size, Hkv = k_cache.shape[1:3]
    out = torch.zeros(T, Hq, D, dtype=torch.float64)
    lse = torch.full((T, Hq), -math.inf, dtype=torch.float64)
    for b, rows in enumerate(rows_of(row_indptr)):
        context_len = int(context_lens[b])
        for row in rows:
            bits = (ancestor_mask[row, :, None] >> torch.arange(32)) & 1
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
            scores = scale * torch.einsum("hd,khd->hk", q[row].double(), k)
            if softcap > 0:
                scores = softcap * torch.tanh(scores / softcap)
            lse[row] = scores.logsumexp(-1)
            out[row] = torch.einsum("hk,khd->hd", scores.softmax(-1), v)
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
