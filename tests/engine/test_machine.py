"""An engine under any order of what may happen to it, beside a plain account of what must be true.

Whatever came before, a request's tokens are the first of those that it has alone; it ends with all
of them, or early for a reason that was given; and when nothing is left all pages are free.
"""

from __future__ import annotations

import itertools
from contextlib import suppress
from dataclasses import dataclass, field

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from specbranch.costs.model import CostModel
from specbranch.engine import Engine
from specbranch.generation import GenerationStream
from specbranch.lanes import LaneError, VirtualLanes
from specbranch.loading.pair import ModelPair
from specbranch.policies import make_policy
from specbranch.sampling import SamplingParams
from tests.engine import tiny

LONG = list(itertools.islice(itertools.cycle([5, 9, 3, 7, 30]), 520))  # of two chunks
PROMPTS = [[5, 6, 7], [5, 9], [11], LONG, [*LONG[:515], 40]]
PARAMS = [
    SamplingParams(max_new_tokens=20),
    SamplingParams(max_new_tokens=7, temperature=0.9, seed=3),
    SamplingParams(max_new_tokens=30, temperature=0.7, top_p=0.9, seed=-1),
    SamplingParams(max_new_tokens=0),
    SamplingParams(max_new_tokens=1, temperature=2.0),
]
METHODS = ["ar", "sps", "specbranch", "bestfirst", "auto"]


def make_pair() -> ModelPair:
    pair = tiny.pair(noise=0.15)
    for model in (pair.target, pair.draft):
        model.config.max_position_embeddings = 4096
    return pair


PAIR = make_pair()
ALONE: dict[tuple[int, int], list[int]] = {}


def alone(prompt: int, params: int) -> list[int]:
    if (prompt, params) not in ALONE:
        with Engine(PAIR, make_policy("ar"), max_len=600, max_requests=1) as engine:
            ALONE[prompt, params] = engine.generate(PROMPTS[prompt], PARAMS[params]).token_ids
    return ALONE[prompt, params]


class Injected(Exception):
    """What a test makes go wrong."""


@dataclass(eq=False)
class Live:
    """A stream, what it must write, what was read of it, and what may have ended it early."""

    stream: GenerationStream
    expected: list[int]
    read: list[int] = field(default_factory=list)
    excuses: set[type[BaseException]] = field(default_factory=set)

    def check(self) -> None:
        assert self.read == self.expected[: len(self.read)]

    def check_end(self) -> None:
        generation = self.stream.generation
        assert generation is not None
        if generation.finish_reason == "length":
            assert generation.token_ids == self.expected
        else:
            assert generation.token_ids == self.expected[: len(generation.token_ids)]
        if generation.error:
            assert type(generation.error) in self.excuses, generation.error


class EngineMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.live: list[Live] = []
        self.engine = self.new_engine("specbranch")

    def new_engine(self, method: str) -> Engine:
        lanes = VirtualLanes(CostModel.parse("virtual:c=4"))
        # Room for two long requests, of up to four that may run.
        sizes = {"max_len": 600, "max_nodes": 32, "max_requests": 4, "cache_tokens": 1300}
        return Engine(PAIR, make_policy(method), lanes=lanes, **sizes)

    @rule(prompt=st.integers(0, len(PROMPTS) - 1), params=st.integers(0, len(PARAMS) - 1))
    def add(self, prompt: int, params: int) -> None:
        if len(self.live) < 6:
            stream = self.engine.stream(PROMPTS[prompt], PARAMS[params])
            self.live.append(Live(stream, alone(prompt, params)))

    @rule()
    def step(self) -> None:
        self.engine.step()

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        live = self.pick(data)
        try:
            live.read += next(live.stream).token_ids
            live.check()
        except StopIteration:
            assert live.read == live.stream.generation.token_ids
            self.leave(live)
        except tuple(live.excuses):
            self.leave(live)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def take_what_is_there(self, data: st.DataObject) -> None:
        live = self.pick(data)
        for chunk in live.stream.ready():
            live.read += chunk.token_ids
        live.check()

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        live = self.pick(data)
        live.stream.close()
        self.leave(live)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        """Without a word; the engine lets it go with the next round."""
        self.live.remove(self.pick(data))

    @precondition(lambda self: self.live)
    @rule(data=st.data(), place=st.sampled_from(["grow", "submit", "observe", "fan"]))
    def break_a_policy(self, data: st.DataObject, place: str) -> None:
        """It ends its own request alone."""
        live = self.pick(data)

        def broken(*_: object) -> None:
            raise Injected

        setattr(live.stream.request.policy, place, broken)
        live.excuses.add(Injected)

    @rule(lane=st.integers(0, 1), error=st.sampled_from([Injected, MemoryError]))
    def fail_a_forward(self, lane: int, error: type[Exception]) -> None:
        """The next one; it ends all requests of its round."""
        self.break_forward(lane, error)
        for live in self.live:
            live.excuses.add(LaneError)
        self.engine.step()
        self.mend_forward(lane)

    @rule(lane=st.integers(0, 1))
    def interrupt_a_forward(self, lane: int) -> None:
        self.break_forward(lane, KeyboardInterrupt)
        for live in self.live:
            live.excuses.add(RuntimeError)
        with suppress(KeyboardInterrupt):
            self.engine.step()
        self.mend_forward(lane)

    @rule(method=st.sampled_from(METHODS))
    def begin_anew(self, method: str) -> None:
        self.engine.close()
        for live in self.live:
            live.check_end()
        with pytest.raises(RuntimeError, match="closed"):
            self.engine.stream(PROMPTS[0])
        self.all_is_free()
        self.live.clear()
        self.engine = self.new_engine(method)

    @invariant()
    def the_counts_hold(self) -> None:
        stats = self.engine.stats()
        assert 0 <= stats["free_pages"] <= stats["pages"]
        assert stats["running"] <= 4
        unfinished = [live for live in self.live if live.stream.generation is None]
        assert stats["running"] + stats["waiting"] >= len(unfinished)

    def teardown(self) -> None:
        while self.engine.step():
            pass
        for live in self.live:
            live.read += [token for chunk in live.stream.ready() for token in chunk.token_ids]
            assert live.read == live.stream.generation.token_ids
            live.check_end()
        self.all_is_free()
        self.engine.close()

    def pick(self, data: st.DataObject) -> Live:
        return data.draw(st.sampled_from(self.live), label="stream")

    def leave(self, live: Live) -> None:
        live.check_end()
        self.live.remove(live)

    def break_forward(self, lane: int, error: type[BaseException]) -> None:
        def broken(*_: object, **__: object) -> None:
            raise error

        self.engine._runners[lane][1].forward = broken

    def mend_forward(self, lane: int) -> None:
        del self.engine._runners[lane][1].forward

    def all_is_free(self) -> None:
        for _, runner in self.engine._runners:
            assert runner.pool.num_free + runner.prefixes.num_spare == runner.pool.num_pages


TestMachine = EngineMachine.TestCase
TestMachine.settings = settings(stateful_step_count=40)
