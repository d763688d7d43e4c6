"""Fakes of the ops: shapes and dtypes of their results, for torch.compile and torch.export.

`specbranch._C` imports this module, so whoever has the ops has their fakes. They name the arguments
that results depend on; whatever follows is taken as it comes.
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
def branch_attention(q: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), _float32(q, *q.shape[:2])


@register_fake("specbranch::rms_norm")
def rms_norm(x: Tensor, *_: object) -> Tensor:
    return x.new_empty(x.shape)


@register_fake("specbranch::silu_and_mul")
@register_fake("specbranch::gelu_tanh_and_mul")
def gated(x: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], x.shape[1] // 2)


@register_fake("specbranch::sampling_probs")
def sampling_probs(logits: Tensor, *_: object) -> Tensor:
    return _float32(logits, *logits.shape)


@register_fake("specbranch::sample")
def sample(logits: Tensor, *_: object) -> Tensor:
    return _int32(logits, logits.shape[0])


@register_fake("specbranch::draft_topk")
def draft_topk(logits: Tensor, k: int, *_: object) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows = logits.shape[0]
    return (
        _int32(logits, rows, k),
        _float32(logits, rows, k),
        _float32(logits, rows),
        _float32(logits, rows),
    )


@register_fake("specbranch::verify_tree")
def verify_tree(candidates: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    b, n = candidates.shape
    path_len, next_token, winner, status = (_int32(candidates, b) for _ in range(4))
    return _int32(candidates, b, n), path_len, next_token, winner, status


@register_fake("specbranch::packed_linear")
@register_fake("specbranch::quantized_linear")
def linear(x: Tensor, weight: Tensor, out_features: int, *_: object) -> Tensor:
    return x.new_empty(x.shape[0], out_features)


@register_fake("specbranch::quantized_rows")
def quantized_rows(weight: Tensor, ids: Tensor) -> Tensor:
    return _float32(weight, ids.shape[0], 32 * weight.shape[1])


def register_nothing(name: str) -> None:
    """The fake of an `_out` or in-place op, which returns nothing."""
    register_fake(f"specbranch::{name}")(lambda *_: None)
