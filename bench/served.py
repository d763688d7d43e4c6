"""Requests of mixed lengths, cut from real prompts, and what serving them comes to.

A round commits several tokens at once. The pace is per token: the time from one round's tokens to
the next one's over the tokens of the later round, each of them counted. A request's first round is
in the time to first token instead.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Mix:
    """How many requests, and their least and most tokens."""

    requests: int
    prompt_tokens: tuple[int, int] = (8, 256)
    new_tokens: tuple[int, int] = (4, 64)

    @property
    def longest(self) -> int:
        return self.prompt_tokens[1] + self.new_tokens[1]


SMOKE = Mix(6, (8, 32), (2, 6))


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request that will come."""

    prompt: list[int]
    new_tokens: int


def draw_requests(
    mix: Mix, texts: Sequence[Sequence[int]], generator: random.Random
) -> list[Wanted]:
    """Requests of log-uniform lengths; prompts longer than a text go on with others."""
    requests = []
    for _ in range(mix.requests):
        length, prompt = _log_uniform(mix.prompt_tokens, generator), []
        while len(prompt) < length:
            prompt += generator.choice(texts)
        requests.append(Wanted(prompt[:length], _log_uniform(mix.new_tokens, generator)))
    return requests


def _log_uniform(bounds: tuple[int, int], generator: random.Random) -> int:
    least, most = bounds
    return min(most, int(math.exp(generator.uniform(math.log(least), math.log(most + 1)))))


@dataclass(slots=True)
class Served:
    """A request on its way. came: when. times, counts: of its bursts."""

    wanted: Wanted
    came: float
    times: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def note(self, tokens: int, now: float) -> None:
        self.times.append(now)
        self.counts.append(tokens)


def figures(served: Sequence[Served]) -> dict[str, Any]:
    """What requests came to; seconds from the first one's coming to the last one's end."""
    seconds = max(each.times[-1] for each in served) - min(each.came for each in served)
    tokens = sum(sum(each.counts) for each in served)
    return {
        "requests": len(served),
        "tokens": tokens,
        "tokens_per_s": tokens / seconds,
        "first_token_s": _percentiles(np.array([each.times[0] - each.came for each in served])),
        "per_token_s": _percentiles(np.concatenate(list(map(per_token, served)))),
    }


def per_token(served: Served) -> NDArray[np.float64]:
    """Seconds of each token after the first round."""
    counts = np.array(served.counts[1:], dtype=int)
    return np.repeat(np.diff(np.array(served.times, dtype=float)) / counts, counts)


def _percentiles(values: NDArray[np.float64]) -> dict[str, float]:
    if not len(values):
        return {}
    return {f"p{share}": float(np.percentile(values, share)) for share in (50, 95)}
