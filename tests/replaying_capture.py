"""A capture that works on a CPU: operations noted once, then repeated on the same memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Outputs = tuple[Tensor, ...]


class Notes(TorchDispatchMode):
    """Runs operations and notes them down: what was called, on which tensors, giving which."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, tuple, dict, Any]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, result))
        return result

    def repeat(self) -> None:
        """Do it all again with no Python of the work: new numbers, in the old results' memory."""
        for func, args, kwargs, result in self.operations:
            again = tree_leaves(func(*args, **kwargs))
            for old, new in zip(tree_leaves(result), again, strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class ReplayingCapture:
    """As strict as CUDA graphs: a repetition reads only the memory that was read at the capture,
    and before it all results of earlier ones are lost, as in a shared pool.

    rows: of the logits of each capture, in order. replays: repetitions so far.
    """

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.replays = 0
        self._results: list[Tensor] = []

    def __call__(self, work: Callable[[], Outputs]) -> tuple[Callable[[], None], Outputs]:
        with Notes() as notes:
            outputs = work()
        self.rows.append(len(outputs[0]))
        self._results += outputs

        @torch.inference_mode()
        def replay() -> None:
            self.replays += 1
            for result in self._results:
                result.fill_(torch.nan)
            notes.repeat()

        return replay, outputs
