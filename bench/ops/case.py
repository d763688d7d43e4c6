"""An op at one shape, and who is to compute it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import torch

from bench.floors import Work
from bench.measure import Call

Inputs = TypeVar("Inputs")
Kind = Literal["ours", "eager", "library"]
OURS = "ours"
EAGER = "eager torch"
EXPANDED = "SDPA, K/V expanded"


@dataclass(frozen=True, slots=True)
class Way(Generic[Inputs]):
    """One way to compute an op. Its calls wait for no device, so that a CUDA graph can hold them.

    memory: bytes that it needs besides the inputs. module: the one it comes from, where that is not
    torch; it then needs a GPU.
    """

    name: str
    kind: Kind
    make: Callable[[Inputs], Call]
    memory: int = 0
    module: str | None = None


@dataclass(frozen=True, slots=True)
class Case(Generic[Inputs]):
    """params: what its shape is, by name. memory: bytes of its inputs. devices: where the op is."""

    op: str
    model: str
    params: Mapping[str, Any]
    dtype: torch.dtype
    work: Work
    memory: int
    inputs: Callable[[torch.device], Inputs]
    ways: tuple[Way[Inputs], ...]
    devices: tuple[str, ...] = ("cpu", "cuda")

    @property
    def shape(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.params.items())
