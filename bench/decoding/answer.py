"""One request, timed the same way whoever serves it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from specbranch.engine import Engine, default_lanes, works_at_once
from specbranch.lanes import Lanes
from specbranch.loading.pair import ModelPair
from specbranch.policies import make_policy
from specbranch.sampling import SamplingParams
from specbranch.stats import Stats

Answerer = Callable[[list[int], SamplingParams], "Answer"]
"""Answers a prompt of token ids."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished request.

    token_ids: as they were generated, an end-of-sequence token included. wall_s: from the call to
    its return. arrivals: seconds after the call at which tokens came, one entry a burst. stats: of
    a peer, only what its bursts tell.
    """

    token_ids: list[int]
    wall_s: float
    arrivals: list[float]
    stats: Stats

    @property
    def first_token_s(self) -> float:
        return self.arrivals[0]


class Arrivals:
    """When tokens came, and how many at a time."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self.times: list[float] = []
        self.counts: list[int] = []

    def note(self, count: int) -> None:
        self.times.append(self.seconds)
        self.counts.append(count)

    @property
    def seconds(self) -> float:
        """Since the request began."""
        return time.perf_counter() - self._start


def of_engine(engine: Engine) -> Answerer:
    """One of our methods; the time ends when both lanes are idle again."""

    def answer(prompt: list[int], params: SamplingParams) -> Answer:
        arrivals = Arrivals()
        stream = engine.stream(prompt, params)
        for chunk in stream:
            arrivals.note(len(chunk.token_ids))
        wall_s = arrivals.seconds
        assert stream.generation is not None
        generation = stream.generation
        return Answer(generation.token_ids, wall_s, arrivals.times, generation.stats)

    return answer


@contextmanager
def open_engines(
    pair: ModelPair, contenders: Sequence[str], max_len: int
) -> Iterator[dict[str, Engine]]:
    """An engine for each method, or `method@source`.

    Those that overlap have one pair of lanes, the others another, each as it would have alone: the
    OpenMP threads of many pools would be more than the cores, and then libgomp lets them sleep
    between operations.
    """
    lanes: dict[bool, Lanes] = {}
    engines = {}
    with ExitStack() as stack:
        for contender in contenders:
            method, source = method_and_source(contender)
            policy = make_policy(method)
            overlap = works_at_once(policy, source)
            if overlap not in lanes:
                lanes[overlap] = stack.enter_context(default_lanes(pair, overlap))
            engines[contender] = Engine(
                pair, policy, source=source, lanes=lanes[overlap], max_len=max_len
            )
        yield engines


def method_and_source(contender: str) -> tuple[str, str]:
    """Of `method@source`; the draft model is the source of a bare method."""
    method, _, source = contender.partition("@")
    return method, source or "model"


def of_bursts(token_ids: Iterable[int], arrivals: Arrivals) -> Answer:
    """A peer's answer, just finished: each burst is one forward of its target."""
    tokens = list(token_ids)
    wall_s = arrivals.seconds
    stats = Stats(
        wall_s=wall_s,
        tokens=len(tokens),
        target_forwards=len(arrivals.counts),
        accepted_lengths=list(arrivals.counts),
    )
    return Answer(tokens, wall_s, arrivals.times, stats)
