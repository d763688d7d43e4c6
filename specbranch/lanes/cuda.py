"""CUDA lanes: a stream each, on the same device or on two."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from specbranch.lanes.base import Lane, Lanes, guarded
from specbranch.trace import Span, Trace

T = TypeVar("T")

HIGH_PRIORITY, NORMAL_PRIORITY = -1, 0


@dataclass(slots=True)
class EventPending(Generic[T]):
    """Kernels in flight on a stream, and what they will have computed."""

    lane: StreamLane
    label: str
    rows: int
    started: torch.cuda.Event
    finished: torch.cuda.Event
    value: T
    traced: bool = False

    def done(self) -> bool:
        return self.finished.query()

    def result(self) -> T:
        self.finished.synchronize()
        if not self.traced:
            self.traced = True
            self.lane.trace_span(self.label, self.rows, self.started, self.finished)
        return self.value


class StreamLane(Lane):
    """Launches work on one stream; the host goes on at once."""

    def __init__(self, name: str, device: torch.device, priority: int) -> None:
        self.name = name
        self.device = device
        self.stream = torch.cuda.Stream(device, priority)
        self._epoch = torch.cuda.Event(enable_timing=True)
        self._trace = Trace()

    def submit(self, label: str, work: Callable[[], T], *, rows: int = 0) -> EventPending[T]:
        started, finished = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        # What the caller has launched so far may be what this work reads.
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            started.record()
            value = guarded(self.name, label, work)
            finished.record()
        return EventPending(self, label, rows, started, finished, value)

    def begin(self, trace: Trace) -> None:
        self._trace = trace
        self._epoch.record(self.stream)

    def trace_span(
        self, label: str, rows: int, started: torch.cuda.Event, finished: torch.cuda.Event
    ) -> None:
        """Add finished work to the trace, in the device's time."""
        start, end = (self._epoch.elapsed_time(event) / 1e3 for event in (started, finished))
        self._trace.spans.append(Span(self.name, label, start, end, rows))

    def drain(self) -> None:
        self.stream.synchronize()


class StreamLanes(Lanes):
    """Draft and target on two streams. The draft's has priority: its kernels are the short ones."""

    draft: StreamLane
    target: StreamLane

    def __init__(self, draft_device: torch.device, target_device: torch.device) -> None:
        self.draft = StreamLane("draft", draft_device, HIGH_PRIORITY)
        self.target = StreamLane("target", target_device, NORMAL_PRIORITY)
        self._epoch = time.perf_counter()

    def begin(self) -> Trace:
        trace = Trace()
        self.draft.begin(trace)
        self.target.begin(trace)
        self._epoch = time.perf_counter()
        return trace

    def now(self) -> float:
        return time.perf_counter() - self._epoch
