"""What a pair's forwards cost on this machine: a cost model by measurement."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from specbranch import ops
from specbranch.lanes.base import Lane, Lanes, Pending
from specbranch.loading.pair import ModelPair
from specbranch.models.block import Block, BlockRows, Keep
from specbranch.models.runner import ModelRunner
from specbranch.models.sampling_rows import SamplingRows, SamplingTensors
from specbranch.sampling import SamplingParams

ROWS = (1, 2, 4, 8, 16, 32, 64)
GUESSES = 8  # ranked at each row of a draft step
COMPANY = 8  # rows of the other lane's forwards under contention
LATENCY_SAMPLES = 200

Forward = Callable[[], object]


class Measurement(NamedTuple):
    """The median seconds of one kind of forward."""

    lane: str
    rows: int
    contended: bool  # while the other lane is busy
    seconds: float


class PairTimer:
    """Times draft steps and target forwards of a pair on its lanes.

    context: committed tokens before the forwards' rows. repeats: forwards that a median is of.
    """

    def __init__(self, pair: ModelPair, lanes: Lanes, *, context: int, repeats: int) -> None:
        self._lanes = lanes
        self._repeats = repeats
        self._target, self._draft = (
            ModelRunner(model, max_len=context, max_nodes=max(ROWS))
            for model in (pair.target, pair.draft)
        )
        self._known = min(self._target.vocab_size, self._draft.vocab_size)
        self._blocks = [runner.open() for runner in (self._target, self._draft)]
        for runner, block in zip((self._target, self._draft), self._blocks, strict=True):
            runner.prefill(block, [token % self._known for token in range(context)])
        sampling = SamplingRows(max(ROWS), self._draft.device)
        self._sampling = sampling.send([(SamplingParams(temperature=1.0), [0] * max(ROWS))])

    def __len__(self) -> int:
        """How many measurements there are to come."""
        return 4 * len(ROWS)

    def measurements(self) -> Iterator[Measurement]:
        """All forwards, alone and then beside a busy other lane."""
        lanes = {
            "draft": (self._lanes.draft, self._draft_step),
            "target": (self._lanes.target, self._target_forward),
        }
        alone: dict[tuple[str, int], float] = {}
        for name, (lane, forward) in lanes.items():
            for rows in ROWS:
                alone[name, rows] = self._seconds(lane, forward(rows), rows)
                yield Measurement(name, rows, False, alone[name, rows])
        companies = {
            "draft": ("target", self._target_forward(COMPANY)),
            "target": ("draft", self._ranked_forward(COMPANY)),
        }
        for name, (lane, forward) in lanes.items():
            other, beside = companies[name]
            for rows in ROWS:
                needed = 2 + math.ceil(2 * alone[name, rows] / alone[other, COMPANY])
                company = Company(lanes[other][0], beside, needed)
                seconds = self._seconds(lane, forward(rows), rows, company.keep_busy)
                yield Measurement(name, rows, True, seconds)

    def latencies(self) -> tuple[float, float]:
        """Median seconds from submission to start and from end to result, of empty work."""
        trace, lane = self._lanes.begin(), self._lanes.draft
        asked, answered = [], []
        for _ in range(LATENCY_SAMPLES):
            asked.append(self._lanes.now())
            lane.run("nothing", lambda: None)
            answered.append(self._lanes.now())
        self._lanes.drain()
        launch = median(span.start - at for span, at in zip(trace.spans, asked, strict=True))
        sync = median(at - span.end for span, at in zip(trace.spans, answered, strict=True))
        return max(0.0, launch), max(0.0, sync)

    def _seconds(
        self, lane: Lane, forward: Forward, rows: int, before_each: Forward = lambda: None
    ) -> float:
        trace = self._lanes.begin()
        lane.run("warm-up", forward)
        for _ in range(self._repeats):
            before_each()
            lane.run("timed", forward, rows=rows)
        self._lanes.drain()
        spans = [span for span in trace.spans if span.label == "timed"]
        return median(span.end - span.start for span in spans)

    def _draft_step(self, rows: int) -> Forward:
        """A forward over nodes below one root, the ranking of their guesses, and their ids."""
        ranked = self._ranked_forward(rows)
        return lambda: ranked().tolist()

    def _ranked_forward(self, rows: int) -> Callable[[], Tensor]:
        """The same, but the ids stay on the device: nobody waits for them."""
        sampling = SamplingTensors(*(tensor[:rows] for tensor in self._sampling))
        positions = torch.zeros_like(self._sampling.top_k[:rows])
        _, block = self._blocks

        def ranked() -> Tensor:
            logits = self._draft.forward([_star(block, rows)])
            ids, *_ = ops.draft_topk(
                logits, GUESSES, *sampling, positions, "gumbel", self._draft.token_ids
            )
            self._draft.keep([Keep(block, [], 0)])
            return ids

        return ranked

    def _target_forward(self, rows: int) -> Forward:
        block, _ = self._blocks

        def forward() -> None:
            self._target.forward([_star(block, rows)])
            self._target.keep([Keep(block, [], 0)])

        return forward


class Company:
    """Keeps a lane busy: at least `needed` forwards in line whenever asked to."""

    def __init__(self, lane: Lane, forward: Forward, needed: int) -> None:
        self._lane = lane
        self._forward = forward
        self._needed = needed
        self._in_line: list[Pending[object]] = []

    def keep_busy(self) -> None:
        self._in_line = [pending for pending in self._in_line if not pending.done()]
        while len(self._in_line) < self._needed:
            self._in_line.append(self._lane.submit("company", self._forward, rows=COMPANY))


def contention(measurements: Sequence[Measurement], lane: str) -> float:
    """How many times as long a lane's forwards take beside a busy other lane, 1 at least."""
    alone, contended = (
        {m.rows: m.seconds for m in measurements if m.lane == lane and m.contended is beside}
        for beside in (False, True)
    )
    return max(1.0, median(contended[rows] / alone[rows] for rows in contended))


def _star(block: Block, rows: int) -> BlockRows:
    """A root and its children."""
    return BlockRows(block, [0] * rows, [-1] + [0] * (rows - 1), rows)
