"""The ops on a GPU, for tests that speak of CPU tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from specbranch import ops

GPU = torch.device("cuda")


class Mover:
    """Moves tensors with all the memory they lie in: strides, offsets and what is between rows.

    Tensors that share memory share it on the device too.
    """

    def __init__(self, device: torch.device = GPU) -> None:
        self._device = device
        self._moved: dict[tuple[int, torch.dtype], tuple[Tensor, Tensor]] = {}

    def move(self, tree: Any) -> Any:
        """The same arguments on the device."""
        return tree_map_only(Tensor, self._move, tree)

    def bring_back(self) -> None:
        """Copy what the device did to that memory into the tensors it came from."""
        for here, there in self._moved.values():
            here.copy_(there)

    def _move(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        key = storage.data_ptr(), tensor.dtype
        if key not in self._moved:
            here = torch.empty(0, dtype=tensor.dtype).set_(storage)
            self._moved[key] = here, here.to(self._device, copy=True)
        there = self._moved[key][1]
        return there.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


class OpsOnDevice:
    """`specbranch.ops`, computed on the device; arguments and results are CPU tensors."""

    mix = staticmethod(ops.mix)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        op = getattr(ops, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            mover = Mover()
            results = op(*mover.move(args), **mover.move(kwargs))
            mover.bring_back()
            return tree_map_only(Tensor, Tensor.cpu, results)

        return call
