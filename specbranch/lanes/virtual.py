"""Virtual lanes: real models and real tokens, time charged from a cost model.

The schedule of a 70B target can so be studied on a laptop. Work runs at once, in the caller's
thread; only the clock pretends that the lanes were parallel, so runs are reproducible.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from specbranch.lanes.base import Lane, Lanes, guarded
from specbranch.trace import Span, Trace

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RowCosts:
    """Seconds of a forward as a function of its rows, linear between measured row counts."""

    rows: tuple[int, ...]
    seconds: tuple[float, ...]

    def __call__(self, rows: int) -> float:
        return float(np.interp(rows, self.rows, self.seconds))


@dataclass(frozen=True, slots=True)
class CostModel:
    """What a draft and a target forward cost."""

    name: str
    draft: RowCosts
    target: RowCosts

    @classmethod
    def parse(cls, clock: str) -> CostModel:
        """Read `virtual:c=X` (a draft step costs 1, a target forward X, rows are free) or
        `virtual:FILE`, a JSON file {"draft": {"1": s, ...}, "target": {"1": s, "8": s, ...}} of
        seconds by rows. Raises ValueError if it is neither.
        """
        kind, _, spec = clock.partition(":")
        if kind != "virtual" or not spec:
            raise ValueError(f"clock: expected virtual:c=X or virtual:FILE, got {clock!r}")
        if spec.startswith("c="):
            return cls(clock, _flat(1.0), _flat(_positive(spec[2:], clock)))
        try:
            costs = json.loads(Path(spec).read_text())
            return cls(clock, _by_rows(costs["draft"]), _by_rows(costs["target"]))
        except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"clock: expected a JSON file of seconds by rows for draft and target, "
                f"got {spec!r}: {error}"
            ) from error


def _flat(seconds: float) -> RowCosts:
    return RowCosts((1,), (seconds,))


def _by_rows(costs: Mapping[str, float]) -> RowCosts:
    points = sorted((int(rows), float(seconds)) for rows, seconds in costs.items())
    if not points or points[0][1] <= 0:
        raise ValueError("expected at least one positive cost")
    return RowCosts(*zip(*points, strict=True))


def _positive(text: str, clock: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ValueError(f"clock: expected a positive number after c=, got {clock!r}")
    return value


@dataclass(slots=True)
class VirtualClock:
    """The one clock that both lanes and their waiting caller share."""

    now: float = 0.0


@dataclass(frozen=True, slots=True)
class VirtualPending(Generic[T]):
    """Work that has run, and whose time has perhaps not come yet."""

    clock: VirtualClock
    end: float
    value: T | None = None
    error: BaseException | None = None

    def done(self) -> bool:
        return self.clock.now >= self.end

    def result(self) -> T:
        self.clock.now = max(self.clock.now, self.end)
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]


class VirtualLane(Lane):
    """Charges `cost` of a forward's rows; other work is free."""

    def __init__(self, name: str, clock: VirtualClock, cost: RowCosts) -> None:
        self.name = name
        self.trace = Trace()
        self._clock = clock
        self._cost = cost
        self._free_at = 0.0

    def submit(self, label: str, work: Callable[[], T], *, rows: int = 0) -> VirtualPending[T]:
        start = max(self._clock.now, self._free_at)
        end = self._free_at = start + (self._cost(rows) if rows else 0.0)
        self.trace.spans.append(Span(self.name, label, start, end, rows))
        try:
            return VirtualPending(self._clock, end, guarded(self.name, label, work))
        except BaseException as error:
            return VirtualPending(self._clock, end, error=error)

    def begin(self, trace: Trace) -> None:
        self.trace = trace
        self._free_at = 0.0

    def drain(self) -> None:
        self._clock.now = max(self._clock.now, self._free_at)


class VirtualLanes(Lanes):
    """Draft and target under a virtual clock."""

    draft: VirtualLane
    target: VirtualLane

    def __init__(self, costs: CostModel) -> None:
        self.costs = costs
        self._clock = VirtualClock()
        self.draft = VirtualLane("draft", self._clock, costs.draft)
        self.target = VirtualLane("target", self._clock, costs.target)

    def begin(self) -> Trace:
        trace = Trace()
        self._clock.now = 0.0
        self.draft.begin(trace)
        self.target.begin(trace)
        return trace

    def now(self) -> float:
        return self._clock.now
