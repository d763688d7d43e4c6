"""Requests of mixed lengths, cut from real prompts."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass


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
