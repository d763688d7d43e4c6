"""Tensors with an inaccessible page before and behind them: who reads or writes beyond, dies."""

from __future__ import annotations

import ctypes
import mmap

import torch
from torch import Tensor

PAGE = mmap.PAGESIZE
ROOM = 16 * PAGE

_libc = ctypes.CDLL(None, use_errno=True)


class Arena:
    """Room for one tensor."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, ROOM + 2 * PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        for page in (start, start + PAGE + ROOM):
            if _libc.mprotect(ctypes.c_void_p(page), PAGE, 0) != 0:
                raise OSError(ctypes.get_errno(), "mprotect")
        self.bytes = torch.frombuffer(self.memory, dtype=torch.uint8)[PAGE : PAGE + ROOM]

    def place(self, tensor: Tensor, at_end: bool) -> Tensor:
        """A copy with the strides of `tensor`; one that is too large stays where it is."""
        steps = zip(tensor.shape, tensor.stride(), strict=True)
        extent = 1 + sum((size - 1) * stride for size, stride in steps) if tensor.numel() else 0
        taken = extent * tensor.element_size()
        if taken > ROOM:
            return tensor.clone()
        room = self.bytes[ROOM - taken :] if at_end else self.bytes[:taken]
        placed = room.view(tensor.dtype).as_strided(tensor.shape, tensor.stride())
        return placed.copy_(tensor) if 0 not in tensor.stride() else _fill(placed, tensor)


def _fill(placed: Tensor, tensor: Tensor) -> Tensor:
    """copy_ refuses tensors whose elements share memory."""
    once = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in tensor.stride())
    placed[once].copy_(tensor[once])
    return placed
