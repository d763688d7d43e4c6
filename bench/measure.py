"""Timing that survives a busy machine: calls take turns, and their ratio is what counts."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.openmp import release_team

Call = Callable[[], object]
Clock = Callable[[Call], list[float]]
"""Runs a call once or several times and says how many seconds each run took."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one call over all rounds."""

    min: float
    median: float
    max: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Timing:
        return cls(min(seconds), statistics.median(seconds), max(seconds))


def alone(call: Call) -> list[float]:
    """The clock of a CPU: a call after an untimed one, which wakes its threads.

    OpenMP's threads stay awake for a while after a call, and would hold the cores of whoever comes
    next with other threads: so they are let go before.
    """
    release_team()
    call()
    start = time.perf_counter()
    call()
    return [time.perf_counter() - start]


def take_turns(
    calls: Mapping[str, Call],
    *,
    rounds: int = 30,
    seconds: float = 2.0,
    at_least: int = 5,
    clock: Clock = alone,
) -> dict[str, Timing]:
    """Time each call `rounds` times, in turns so that disturbances hit all of them.

    seconds: stop earlier than `rounds` once this much time has passed, but not before `at_least`.
    """
    for call in calls.values():
        call()
    samples: dict[str, list[float]] = {name: [] for name in calls}
    deadline = time.perf_counter() + seconds
    for turn in range(rounds):
        if turn >= at_least and time.perf_counter() > deadline:
            break
        for name, call in calls.items():
            samples[name] += clock(call)
    return {name: Timing.of(times) for name, times in samples.items()}


def copy_of(num_bytes: int, device: torch.device | str = "cpu") -> Call:
    """A copy that reads `num_bytes` and writes as many, spread over torch's threads."""
    source = torch.ones(max(1, num_bytes // 4), device=device)
    destination = torch.empty_like(source)
    return lambda: destination.copy_(source)


@dataclass(frozen=True, slots=True)
class Product:
    """A square matrix product, large enough to run at its best rate."""

    left: Tensor
    right: Tensor
    result: Tensor

    @classmethod
    def about(cls, flops: int, dtype: torch.dtype, device: torch.device) -> Product:
        """Of `flops` operations, but of 256 x 256 matrices at least and of 4096 x 4096 at most."""
        side = min(max(round(math.cbrt(flops / 2) / 16) * 16, 256), 4096)
        left, right = torch.randn(2, side, side, dtype=dtype, device=device)
        return cls(left, right, torch.empty_like(left))

    @property
    def flops(self) -> int:
        return 2 * len(self.left) ** 3

    def __call__(self) -> None:
        torch.mm(self.left, self.right, out=self.result)
