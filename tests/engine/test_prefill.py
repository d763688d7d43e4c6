"""Reading a prompt is no decoding: it counts neither as a draft step nor as a target forward."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from specbranch.engine import Engine
from specbranch.lanes import Lanes
from specbranch.lanes.base import Lane
from specbranch.policies import make_policy
from specbranch.sampling import SamplingParams
from specbranch.trace import Span, Trace
from tests.engine import tiny

COSTS = {"draft": 1.0, "target": 5.0}  # of a forward, and a hundredth of 1 for each of its tokens
TOKEN = 0.01


class Done:
    def __init__(self, value: object) -> None:
        self.value = value

    def done(self) -> bool:
        return True

    def result(self) -> object:
        return self.value


class MeteredLane(Lane):
    """Runs work at once and charges it for the forwards that its model then makes."""

    def __init__(self, name: str, model: torch.nn.Module) -> None:
        self.name = name
        self.trace = Trace()
        self.now = 0.0
        model.model.register_forward_pre_hook(self._charge, with_kwargs=True)

    def _charge(self, model: torch.nn.Module, args: tuple, kwargs: dict) -> None:
        self.now += COSTS[self.name] + TOKEN * kwargs["input_ids"].numel()

    def submit(self, label: str, work: Callable[[], object], *, rows: int = 0) -> Done:
        start = self.now
        value = work()
        self.trace.spans.append(Span(self.name, label, start, self.now, rows))
        return Done(value)

    def drain(self) -> None:
        """Nothing is ever left."""


class MeteredLanes(Lanes):
    def __init__(self, pair) -> None:
        self.draft = MeteredLane("draft", pair.draft)
        self.target = MeteredLane("target", pair.target)

    def begin(self) -> Trace:
        self.draft.trace = self.target.trace = trace = Trace()
        return trace

    def now(self) -> float:
        return self.draft.now + self.target.now


@pytest.fixture
def pair():
    """Its forwards call hooks, for its linear layers are plain ones."""
    pair = tiny.pair(noise=0.15)
    for model in (pair.target, pair.draft):
        model.config.max_position_embeddings = 2048
    return pair


@pytest.mark.parametrize("length", [1, 2, 4, 1500])
@pytest.mark.parametrize("method", ["sps", "adaedl", "specbranch", "bestfirst"])
def test_the_cost_ratio_is_that_of_decoding_forwards(pair, method, length):
    engine = Engine(pair, make_policy(method), lanes=MeteredLanes(pair))
    prompt = [7 + place % 50 for place in range(length)]
    generation = engine.generate(prompt, SamplingParams(max_new_tokens=24))
    truth = COSTS["target"] / COSTS["draft"]
    assert generation.stats.cost_ratio == pytest.approx(truth, rel=0.2)
    labels = [(span.lane, span.label) for span in generation.trace.spans]
    reads = -(-(length - 1) // 512)
    assert labels.count(("draft", "prefill")) == reads
    rows = [span.rows for span in generation.trace.spans if span.label == "draft"]
    assert generation.stats.draft_forwards == len(rows)


def test_plain_decoding_leaves_the_drafts_prompt_unread(pair):
    engine = Engine(pair, make_policy("ar"), lanes=MeteredLanes(pair))
    generation = engine.generate([7] * 40, SamplingParams(max_new_tokens=4))
    assert not [span for span in generation.trace.spans if span.lane == "draft"]


def test_tokens_that_ride_along_count_as_rows(pair):
    """What the draft lacks after a miss is computed in the step over the root."""
    engine = Engine(pair, make_policy("sps", gamma=2), lanes=MeteredLanes(pair))
    generation = engine.generate([7, 3, 9], SamplingParams(max_new_tokens=40))
    rows = [span.rows for span in generation.trace.spans if span.label == "draft"]
    assert max(rows) == 2  # all of a block of two were right: its last token, and the new root
    assert {1, 2} == set(rows)
