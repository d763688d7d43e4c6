"""Fakes of the ops: shapes and dtypes of their results, for torch.compile and torch.export.

`specbranch._C` imports this module, so whoever has the ops has their fakes. `_out` and in-place
ops return nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.library import register_fake


def _words(bits: int) -> int:
    return (bits + 31) // 32


def _int32(like: Tensor, *sizes: int) -> Tensor:
    return like.new_empty(sizes, dtype=torch.int32)


def _float32(like: Tensor, *sizes: int) -> Tensor:
    return like.new_empty(sizes, dtype=torch.float32)


@register_fake("specbranch::tree_mask")
def tree_mask(
    parents: Tensor, n_nodes: Tensor, row_indptr: Tensor, num_rows: int
) -> tuple[Tensor, Tensor]:
    return _int32(parents, num_rows, _words(parents.shape[1])), _int32(parents, num_rows)


@register_fake("specbranch::branch_attention")
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
    return q.new_empty(q.shape), _float32(q, *q.shape[:2])


@register_fake("specbranch::sampling_probs")
def sampling_probs(
    logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor
) -> Tensor:
    return _float32(logits, *logits.shape)


@register_fake("specbranch::sample")
def sample(
    logits: Tensor,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    min_p: Tensor,
    seed: Tensor,
    position: Tensor,
) -> Tensor:
    return _int32(logits, logits.shape[0])


@register_fake("specbranch::draft_topk")
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
    rows = logits.shape[0]
    return (
        _int32(logits, rows, k),
        _float32(logits, rows, k),
        _float32(logits, rows),
        _float32(logits, rows),
    )


@register_fake("specbranch::verify_tree")
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
    b, n = candidates.shape
    path_len, next_token, winner, status = (_int32(candidates, b) for _ in range(4))
    return _int32(candidates, b, n), path_len, next_token, winner, status


def _returns_nothing(*args: object, **kwargs: object) -> None:
    return None


for _name in (
    "append_kv_",
    "compact_kv_",
    "tree_mask_out",
    "branch_attention_out",
    "sampling_probs_out",
    "sample_out",
    "draft_topk_out",
    "verify_tree_out",
):
    register_fake(f"specbranch::{_name}")(_returns_nothing)
