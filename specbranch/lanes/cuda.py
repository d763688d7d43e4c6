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


@dataclass(frozen=True, slots=True)
class EventPending(Generic[T]):
    """Kernels in flight on a stream, and what they will have computed."""

    finished: torch.cuda.Event
    value: T

    def done(self) -> bool:
        return self.finished.query()

    def result(self) -> T:
        self.finished.synchronize()
        return self.value


@dataclass(slots=True)
class TimedWork:
    """A span whose times the device knows, once it is through."""

    label: str
    rows: int
    started: torch.cuda.Event
    finished: torch.cuda.Event


class StreamLane(Lane):
    """Launches work on one stream; the host goes on at once."""

    def __init__(self, name: str, device: torch.device, priority: int) -> None:
        self.name = name
        self.stream = torch.cuda.Stream(device, priority)
        self._epoch = torch.cuda.Event(enable_timing=True)
        self._timed: list[TimedWork] = []

    def submit(self, label: str, work: Callable[[], T], *, rows: int = 0) -> EventPending[T]:
        started, finished = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with torch.cuda.stream(self.stream):
            started.record()
            value = guarded(self.name, label, work)
            finished.record()
        self._timed.append(TimedWork(label, rows, started, finished))
        return EventPending(finished, value)

    def begin(self) -> None:
        self._timed.clear()
        self._epoch.record(self.stream)

    def drain(self) -> None:
        self.stream.synchronize()

    def spans(self) -> list[Span]:
        """What ran since begin(), in seconds; waits for the stream."""
        self.drain()

        def seconds(event: torch.cuda.Event) -> float:
            return self._epoch.elapsed_time(event) / 1e3

        return [
            Span(
                self.name,
                work.label,
                seconds(work.started),
                seconds(work.finished),
                work.rows,
            )
            for work in self._timed
        ]


class StreamLanes(Lanes):
    """Draft and target on two streams. The draft's has priority: its kernels are the short ones."""

    draft: StreamLane
    target: StreamLane

    def __init__(self, draft_device: torch.device, target_device: torch.device) -> None:
        self.draft = StreamLane("draft", draft_device, HIGH_PRIORITY)
        self.target = StreamLane("target", target_device, NORMAL_PRIORITY)
        self._trace = Trace()

    def begin(self) -> Trace:
        self.drain()
        self.draft.begin()
        self.target.begin()
        self._epoch = time.perf_counter()
        self._trace = Trace()
        return self._trace

    def now(self) -> float:
        return time.perf_counter() - self._epoch

    def drain(self) -> None:
        super().drain()
        self._trace.spans = sorted(
            self.draft.spans() + self.target.spans(), key=lambda span: span.end
        )
