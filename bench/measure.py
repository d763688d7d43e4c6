"""Timing that survives a busy machine: contenders take turns, and their ratio is what counts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one call over all rounds."""

    min: float
    median: float
    max: float


def take_turns(
    contenders: Mapping[str, Callable[[], object]], *, rounds: int = 30, seconds: float = 2.0
) -> dict[str, Timing]:
    """Time each contender `rounds` times, in turns so that disturbances hit all of them.

    seconds: stop earlier than `rounds` once this much time has passed, but not before 5 rounds.
    """
    for call in contenders.values():
        call()
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    deadline = time.perf_counter() + seconds
    for turn in range(rounds):
        if turn >= 5 and time.perf_counter() > deadline:
            break
        for name, call in contenders.items():
            start = time.perf_counter()
            call()
            samples[name].append(time.perf_counter() - start)
    return {
        name: Timing(min(times), statistics.median(times), max(times))
        for name, times in samples.items()
    }


def copy_of(num_bytes: int) -> Callable[[], object]:
    """A copy that reads `num_bytes` and writes as many, spread over torch's threads."""
    source = torch.ones(max(1, num_bytes // 4))
    destination = torch.empty_like(source)
    return lambda: destination.copy_(source)
