"""Other libraries' kernels on the same masked work, where they are installed.

One row a branch over a shared context. FlashAttention has no mask, so its rows see each other
causally, which is as many bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.floors import Heads
from bench.gpu import DTYPE

Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Shape:
    """batch requests, each of `rows` branches over `context` tokens."""

    name: str
    batch: int
    context: int
    rows: int


HEADS = Heads(32, 8, 128)
SHAPES = (Shape("throughput", 8, 8192, 8), Shape("verification", 1, 32768, 8))
PAGE_SIZE = 16


def _random(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=DTYPE, device="cuda")


def _int32(values: object) -> Tensor:
    return torch.as_tensor(values, dtype=torch.int32, device="cuda")


def flash_attention(shape: Shape) -> Call:
    from flash_attn import flash_attn_with_kvcache

    length = shape.context + shape.rows
    q = _random(shape.batch, shape.rows, HEADS.num_qo_heads, HEADS.head_dim)
    k, v = (_random(shape.batch, length, HEADS.num_kv_heads, HEADS.head_dim) for _ in range(2))
    lengths = _int32([length] * shape.batch)
    return lambda: flash_attn_with_kvcache(q, k, v, cache_seqlens=lengths, causal=True)


def flashinfer_mask(shape: Shape) -> Call:
    """Its prefill over pages with a bit for each row and key."""
    import flashinfer

    length = shape.context + shape.rows
    pages = math.ceil(length / PAGE_SIZE)
    visible = torch.ones(shape.rows, length, dtype=torch.bool, device="cuda")
    visible[:, shape.context :] = torch.eye(shape.rows, dtype=torch.bool)
    wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(_scratch(), "NHD")
    wrapper.plan(
        _int32(range(0, (shape.batch + 1) * shape.rows, shape.rows)),
        _int32(range(0, (shape.batch + 1) * pages, pages)),
        _int32(range(shape.batch * pages)),
        _int32([length - (pages - 1) * PAGE_SIZE] * shape.batch),
        HEADS.num_qo_heads,
        HEADS.num_kv_heads,
        HEADS.head_dim,
        PAGE_SIZE,
        custom_mask=visible.flatten().repeat(shape.batch),
        q_data_type=DTYPE,
    )
    q = _random(shape.batch * shape.rows, HEADS.num_qo_heads, HEADS.head_dim)
    cache = _pages(shape.batch * pages)
    return lambda: wrapper.run(q, cache)


def flashinfer_cascade(shape: Shape) -> Call:
    """Its cascade: the contexts as one level, a page for each branch as the next."""
    import flashinfer

    pages = math.ceil(shape.context / PAGE_SIZE)
    branches = shape.batch * shape.rows
    contexts = shape.batch * pages
    wrapper = flashinfer.MultiLevelCascadeAttentionWrapper(2, _scratch(), "NHD")
    wrapper.plan(
        [_int32(range(0, branches + 1, shape.rows)), _int32(range(branches + 1))],
        [_int32(range(0, contexts + 1, pages)), _int32(range(branches + 1))],
        [_int32(range(contexts)), _int32(range(contexts, contexts + branches))],
        [
            _int32([shape.context - (pages - 1) * PAGE_SIZE] * shape.batch),
            _int32([1] * branches),
        ],
        HEADS.num_qo_heads,
        HEADS.num_kv_heads,
        HEADS.head_dim,
        PAGE_SIZE,
        q_data_type=DTYPE,
    )
    q = _random(branches, HEADS.num_qo_heads, HEADS.head_dim)
    cache = _pages(contexts + branches)
    return lambda: wrapper.run(q, cache)


def _scratch() -> Tensor:
    return torch.empty(256 << 20, dtype=torch.uint8, device="cuda")


def _pages(count: int) -> Tensor:
    return _random(count, 2, PAGE_SIZE, HEADS.num_kv_heads, HEADS.head_dim)


ATTENTION: dict[str, tuple[str, Callable[[Shape], Call]]] = {
    "FlashAttention, causal": ("flash_attn", flash_attention),
    "FlashInfer, custom mask": ("flashinfer", flashinfer_mask),
    "FlashInfer, cascade": ("flashinfer", flashinfer_cascade),
}
"""By name: the module that it comes from, and how to make a call."""


def sgl_verify_greedy(nodes: int, vocab: int) -> Call:
    """sgl-kernel's greedy walk of a chain of right guesses, and the argmax that it starts from."""
    import sgl_kernel

    logits = _random(nodes, vocab)
    chosen = logits.argmax(-1)
    candidates = chosen.roll(1)[None]
    rows = torch.arange(nodes, device="cuda")[None]
    following = torch.where(rows + 1 < nodes, rows + 1, -1)
    none = torch.full_like(rows, -1)
    predicts = _int32([0] * nodes)
    accepted, count = _int32([[-1] * nodes]), _int32([0])
    return lambda: sgl_kernel.verify_tree_greedy(
        predicts, accepted, count, candidates, rows, following, none, logits.argmax(-1)[None]
    )
