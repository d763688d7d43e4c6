"""Tensors that the ops take."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from bench.floors import Heads

PAGE_SIZE = 64
WORKSPACE = 1 << 26
"""Floats: enough for every case."""


def ints(device: torch.device, values: Sequence[int] | Sequence[Sequence[int]]) -> Tensor:
    return torch.tensor(values, dtype=torch.int32, device=device)


def rows_of_each(device: torch.device, batch: int, rows: int) -> Tensor:
    """int32 [B + 1]: row_indptr of requests with as many rows each."""
    return ints(device, [b * rows for b in range(batch + 1)])


def pages_of(length: int) -> int:
    return math.ceil(length / PAGE_SIZE)


def cache_bytes(heads: Heads, batch: int, length: int) -> int:
    """Of the keys and values of a layer."""
    return batch * pages_of(length) * PAGE_SIZE * heads.token_bytes


def block_table(device: torch.device, batch: int, length: int) -> Tensor:
    """int32 [B, M]: shuffled pages for `length` positions of each request."""
    order = torch.randperm(batch * pages_of(length), dtype=torch.int32)
    return order.reshape(batch, pages_of(length)).to(device)


def cache(table: Tensor, heads: Heads, dtype: torch.dtype) -> Tensor:
    """[P, S, Hkv, D]"""
    shape = (table.numel(), PAGE_SIZE, heads.num_kv_heads, heads.head_dim)
    return torch.randn(shape, dtype=dtype, device=table.device)


def slots(table: Tensor, positions: Tensor) -> Tensor:
    """int64 [B * J]: where positions [J] of each request lie in a cache of flattened pages."""
    pages = table[:, positions // PAGE_SIZE].long()
    return (pages * PAGE_SIZE + positions % PAGE_SIZE).flatten()


def workspace(device: torch.device) -> Tensor | None:
    """Scratch, where an op does not make its own as cheaply."""
    return torch.zeros(WORKSPACE, device=device) if device.type == "cuda" else None
