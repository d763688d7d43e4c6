"""Requests as they were served, and what that comes to.

A round commits several tokens at once, so there are two times between tokens. Between bursts: from
one round's tokens to the next one's, which a reader waits. Per token: that divided by the tokens of
the later round, each of them counted, which is the pace. A request's first round is in neither, but
in the time to first token, which begins when the request comes.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.mix import Wanted

SETTLING = 0.2  # share of the requests before memory has to be flat

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Load:
    """Requests in flight at all times, or, where `rate` is not 0, arrivals a second at random."""

    in_flight: int
    rate: float = 0.0

    @classmethod
    def of(cls, text: str) -> Load:
        """`8`, or `poisson:0.5`, of which up to 64 run at a time."""
        kind, _, rate = text.partition(":")
        return cls(64, float(rate)) if kind == "poisson" else cls(int(text))

    def __str__(self) -> str:
        return f"{self.rate:g} a second" if self.rate else f"{self.in_flight} in flight"

    def arrivals(self, count: int, chance: random.Random) -> list[float]:
        """Seconds at which so many requests come; 0 where they wait for others to end."""
        if not self.rate:
            return [0.0] * count
        gaps = np.array([chance.expovariate(self.rate) for _ in range(count)])
        return list(np.cumsum(gaps))


@dataclass(slots=True)
class Served:
    """A request on its way. came: when. times, counts: of its bursts; held: bytes in use at its
    end."""

    wanted: Wanted
    came: float
    times: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    held: int = 0

    def note(self, tokens: int, now: float) -> None:
        self.times.append(now)
        self.counts.append(tokens)


class Queue:
    """Requests that come as a load has them."""

    def __init__(self, requests: Sequence[Wanted], load: Load, seed: int) -> None:
        arrivals = load.arrivals(len(requests), random.Random(seed))
        self._waiting = deque(zip(requests, arrivals, strict=True))
        self._in_flight = load.in_flight

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def next_due(self) -> float:
        return self._waiting[0][1]

    def come(self, now: float, live: int) -> Iterator[Served]:
        """Those that begin now, beside so many that are live."""
        while self._waiting and live < self._in_flight and self.next_due <= now:
            wanted, due = self._waiting.popleft()
            live += 1
            yield Served(wanted, due or now)


def figures(served: Sequence[Served]) -> dict[str, Any]:
    """What requests came to; seconds from the first one's coming to the last one's end."""
    seconds = max(each.times[-1] for each in served) - min(each.came for each in served)
    tokens = sum(sum(each.counts) for each in served)
    return {
        "requests": len(served),
        "tokens": tokens,
        "tokens_per_s": tokens / seconds,
        "first_token_s": _percentiles(np.array([each.times[0] - each.came for each in served])),
        "between_bursts_s": _percentiles(np.concatenate(list(map(between_bursts, served)))),
        "per_token_s": _percentiles(np.concatenate(list(map(per_token, served)))),
        "bytes_per_request": growth(np.array([each.held for each in served], dtype=float)),
    }


def between_bursts(served: Served) -> Floats:
    """Seconds from one round's tokens to the next one's."""
    return np.diff(np.array(served.times, dtype=float))


def per_token(served: Served) -> Floats:
    """Those seconds over the tokens of the later round, once for each of them."""
    counts = np.array(served.counts[1:], dtype=int)
    return np.repeat(between_bursts(served) / counts, counts)


def growth(held: Floats) -> float:
    """Bytes that a request adds once memory has settled: by the line of least squares."""
    settled = held[int(SETTLING * len(held)) :]
    return float(np.polyfit(np.arange(len(settled)), settled, 1)[0]) if len(settled) > 1 else 0.0


def _percentiles(values: Floats) -> dict[str, float]:
    if not len(values):
        return {}
    return {f"p{share}": float(np.percentile(values, share)) for share in (50, 95)}
