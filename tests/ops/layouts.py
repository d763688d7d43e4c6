"""The same values in other memory: views with every stride that an op has to accept."""

from __future__ import annotations

import torch
from torch import Tensor


def contiguous(values: Tensor) -> Tensor:
    return values.clone(memory_format=torch.contiguous_format)


def heads_outside(values: Tensor) -> Tensor:
    """[..., S, H, D] stored as [..., H, S, D]: the HND order of a cache."""
    return values.transpose(-3, -2).clone(memory_format=torch.contiguous_format).transpose(-3, -2)


def column_slice(values: Tensor) -> Tensor:
    """A slice of rows that are wider than they need to be."""
    wide = torch.empty(*values.shape[:-1], values.shape[-1] + 8, dtype=values.dtype)
    view = wide[..., 3 : 3 + values.shape[-1]]
    view.copy_(values)
    return view


def every_other_row(values: Tensor) -> Tensor:
    """A batch whose members have a neighbour between them."""
    view = torch.empty(2 * values.shape[0], *values.shape[1:], dtype=values.dtype)[::2]
    view.copy_(values)
    return view


MATRIX_LAYOUTS = [contiguous, column_slice, every_other_row]
HEAD_LAYOUTS = [contiguous, heads_outside, column_slice, every_other_row]
