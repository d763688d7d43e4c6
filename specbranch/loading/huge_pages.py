"""Weights in huge pages: a forward reads all of them, and each page costs a walk through tables.

Where the system hands out huge pages on request only, as most do, a reader of small ones got a
third of the memory's speed (a virtual machine, weights of 0.5 GB).
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

_PAGE = 1 << 21
_ALIGNMENT = 64
_WORTH_MOVING = 1 << 14  # bytes
_AT_ONCE = 1 << 24  # bytes after which what was moved is given back to the system


def move_to_huge_pages(models: Iterable[nn.Module], borrowed: Sequence[Tensor] = ()) -> None:
    """Let the models' weights on a CPU lie side by side in huge pages, where the system has them.

    In place: parameters and buffers stay what they are, those that are the same memory still are.

    borrowed: tensors of the models that are somebody else's, and stay where they are.
    """
    advice = getattr(mmap, "MADV_HUGEPAGE", None)
    by_place: dict[tuple[object, ...], list[Tensor]] = {}
    for tensor in _large_tensors(models, set(map(id, borrowed))):
        place = tensor.data_ptr(), tensor.dtype, tensor.shape
        by_place.setdefault(place, []).append(tensor)
    if advice is None or not by_place:
        return
    size = sum(_aligned(tensors[0].nbytes) for tensors in by_place.values())
    memory = mmap.mmap(-1, size + _PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(advice)
    arena = torch.frombuffer(memory, dtype=torch.uint8)
    at = returned = -arena.data_ptr() % _PAGE
    for tensors in by_place.values():
        first = tensors[0]
        moved = arena[at : at + first.nbytes].view(first.dtype).view(first.shape).copy_(first)
        at += _aligned(first.nbytes)
        for tensor in tensors:
            tensor.data = moved
        if at - returned > _AT_ONCE:
            returned = at
            return_freed_memory()
    return_freed_memory()


def return_freed_memory() -> None:
    """What was freed stays with the C library otherwise: all weights that were moved, and some
    50 MB that reading a GGUF took."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)


def _large_tensors(models: Iterable[nn.Module], seen: set[int]) -> Iterator[Tensor]:
    """Each object once, also where several are the same memory, but for those `seen` before."""
    for model in models:
        for tensor in (*model.parameters(), *model.buffers()):
            plain = tensor.device.type == "cpu" and tensor.layout is torch.strided
            large = plain and tensor.is_contiguous() and tensor.nbytes >= _WORTH_MOVING
            if large and id(tensor) not in seen:
                seen.add(id(tensor))
                yield tensor


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
