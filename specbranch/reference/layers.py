"""The steps of a decoder layer between its products and its attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from specbranch.reference.attention import append_kv_


def rms_norm(x: Tensor, weight: Tensor, eps: float, offset: float = 0.0) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * (weight + offset); x [..., H], weight [H] -> float64 [..., H]."""
    x = x.double()
    return x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * (weight.double() + offset)


def fused_add_rms_norm(
    x: Tensor, residual: Tensor, weight: Tensor, eps: float, offset: float = 0.0
) -> None:
    """Add x [T, H] to the residual [T, H]; x becomes the norm of that sum (both mutated)."""
    residual.add_(x)
    x.copy_(rms_norm(residual, weight, eps, offset))


def silu_and_mul(x: Tensor) -> Tensor:
    """SiLU of the first half of each row, times the second; x [T, 2F] -> float64 [T, F]."""
    gate, up = x.double().chunk(2, dim=-1)
    return F.silu(gate) * up


def gelu_tanh_and_mul(x: Tensor) -> Tensor:
    """The same with GELU, as tanh approximates it."""
    gate, up = x.double().chunk(2, dim=-1)
    return F.gelu(gate, approximate="tanh") * up


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
    """append_kv_ of rotated keys, and queries rotated in place.

    q [T, Hq, D] (mutated), k to row_indptr as in append_kv_, position_ids [T], cos, sin [L, R / 2],
    q_norm, k_norm [D]: with one, each head is normalised before it is rotated.
    """
    rows = int(row_indptr[-1])
    angles = tuple(table[position_ids[:rows].long(), None].double() for table in (cos, sin))

    def turned(heads: Tensor, norm: Tensor | None) -> Tensor:
        heads = heads[:rows].double()
        if norm is not None:
            heads = rms_norm(heads, norm, eps, offset)
        return _rotated(heads, *angles)

    q[:rows] = turned(q, q_norm).to(q.dtype)
    keys = turned(k, k_norm).to(k.dtype)
    append_kv_(keys, v[:rows], k_cache, v_cache, block_table, start, row_indptr)


def _rotated(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = cos.shape[-1]
    low, high, rest = heads.split([half, half, heads.shape[-1] - 2 * half], dim=-1)
    return torch.cat([low * cos - high * sin, high * cos + low * sin, rest], dim=-1)
