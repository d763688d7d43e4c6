"""Virtual lanes: real models and real tokens, time charged from a cost model.

The schedule of a 70B target can so be studied on a laptop. Work runs at once, in the caller's
thread; only the clock pretends that the lanes were parallel, so runs are reproducible.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from specbranch.costs.model import CostModel, LaneCosts
from specbranch.lanes.base import Lane, Lanes, guarded
from specbranch.trace import Span, Trace

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Work:
    """Work of a lane on its way through virtual time.

    cost: seconds with the device to itself. ready: when it can start at the earliest.
    start, end: infinite while they lie in the future and may still change.
    """

    label: str
    rows: int
    cost: float
    ready: float
    start: float = math.inf
    end: float = math.inf
    due: float = math.inf  # when it ends if the other lane stays as it is
    pace: float = 1.0  # seconds a second of cost takes as the other lane is

    def begin(self, now: float) -> None:
        self.start, self.due = now, now + self.cost

    def change_pace(self, now: float, pace: float) -> None:
        """What is left takes `pace` seconds a second of cost from now on."""
        if pace != self.pace:
            self.due = now + (self.due - now) / self.pace * pace
            self.pace = pace


@dataclass(slots=True)
class VirtualClock:
    """The one clock of both lanes and their waiting caller: it goes from event to event."""

    now: float = 0.0
    lanes: list[VirtualLane] = field(default_factory=list)

    def advance(self, end: float) -> None:
        """Let everything happen up to `end`."""
        while self._next_event() <= end:
            self._step()
        self.now = max(self.now, end)

    def finish(self, work: Work) -> None:
        """Let everything happen up to the end of submitted work."""
        while work.end == math.inf:
            self._step()

    def _next_event(self) -> float:
        return min(lane.next_event() for lane in self.lanes)

    def _step(self) -> None:
        lane = min(self.lanes, key=VirtualLane.next_event)
        self.now = max(self.now, lane.next_event())
        lane.pass_event(self.now)
        for lane, other in (self.lanes, reversed(self.lanes)):
            lane.keep_pace(self.now, other.busy)


@dataclass(frozen=True, slots=True)
class VirtualPending(Generic[T]):
    """Work that has run, and whose time has perhaps not come yet."""

    clock: VirtualClock
    work: Work
    sync: float
    value: T | None = None
    error: BaseException | None = None

    def done(self) -> bool:
        return self.clock.now >= self.work.end + self.sync

    def result(self) -> T:
        self.clock.finish(self.work)
        self.clock.advance(self.work.end + self.sync)
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]


class VirtualLane(Lane):
    """Charges what a forward of so many rows costs; other work is free."""

    def __init__(
        self, name: str, clock: VirtualClock, costs: LaneCosts, launch: float, sync: float
    ) -> None:
        self.name = name
        self.trace = Trace()
        self._clock = clock
        self._costs = costs
        self._launch = launch
        self._sync = sync
        self._queue: deque[Work] = deque()
        clock.lanes.append(self)

    @property
    def busy(self) -> bool:
        """Whether a forward is running."""
        return bool(self._queue) and self._queue[0].start < math.inf and self._queue[0].cost > 0

    def submit(self, label: str, work: Callable[[], T], *, rows: int = 0) -> VirtualPending[T]:
        cost, launch, sync = 0.0, 0.0, 0.0
        if rows:
            cost, launch, sync = self._costs.rows(rows), self._launch, self._sync
        charged = Work(label, rows, cost, self._clock.now + launch)
        self._queue.append(charged)
        self._clock.advance(self._clock.now)
        try:
            value = guarded(self.name, label, work)
            return VirtualPending(self._clock, charged, sync, value)
        except BaseException as error:
            return VirtualPending(self._clock, charged, sync, error=error)

    def begin(self, trace: Trace) -> None:
        self.trace = trace
        self._queue.clear()

    def drain(self) -> None:
        if self._queue:
            self._clock.finish(self._queue[-1])

    def next_event(self) -> float:
        """When the first work in line starts or ends."""
        if not self._queue:
            return math.inf
        first = self._queue[0]
        return first.ready if first.start == math.inf else first.due

    def pass_event(self, now: float) -> None:
        """Start or end the first work in line."""
        first = self._queue[0]
        if first.start == math.inf:
            first.begin(now)
            return
        first.end = now
        self._queue.popleft()
        self.trace.spans.append(Span(self.name, first.label, first.start, now, first.rows))

    def keep_pace(self, now: float, contended: bool) -> None:
        """Adapt what is running to whether the other lane is."""
        if self.busy:
            self._queue[0].change_pace(now, self._costs.contention if contended else 1.0)


class VirtualLanes(Lanes):
    """Draft and target under a virtual clock."""

    draft: VirtualLane
    target: VirtualLane

    def __init__(self, costs: CostModel) -> None:
        self.costs = costs
        self._clock = VirtualClock()
        latencies = costs.launch, costs.sync
        self.draft = VirtualLane("draft", self._clock, costs.draft, *latencies)
        self.target = VirtualLane("target", self._clock, costs.target, *latencies)

    def begin(self) -> Trace:
        trace = Trace()
        self._clock.now = 0.0
        self.draft.begin(trace)
        self.target.begin(trace)
        return trace

    def now(self) -> float:
        return self._clock.now
