"""CUDA lanes: a stream each, on the same device or on two.

Work runs on the host at once, in the caller's thread, and launches kernels; the lane's order is the
stream's. So a result is there as soon as it was launched: tensors are for later work of the same
lane, and what the host must know, work itself waits for (see `staging`), once. Only
capturing a graph waits for a whole device.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch

from specbranch.lanes.base import Lane, LaneError, Lanes, guarded
from specbranch.trace import Span, Trace

T = TypeVar("T")

HIGH_PRIORITY, NORMAL_PRIORITY = -1, 0


@dataclass(slots=True)
class StreamPending(Generic[T]):
    """Work that was launched on a stream, and what it returned or raised.

    events: before and behind it on the stream, None once it is known to have run.
    """

    label: str
    rows: int
    events: tuple[torch.cuda.Event, torch.cuda.Event] | None
    value: T | None = None
    error: LaneError | None = None

    def done(self) -> bool:
        """Whether the kernels have run."""
        return self.events is None or self.events[1].query()

    def result(self) -> T:
        """What was returned; tensors may still be in the making, in the order of the stream."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]


class StreamLane(Lane):
    """Launches work on one stream, each piece in an NVTX range.

    Of what is launched elsewhere, on the default stream say, work is ordered behind that which was
    there when its trace began, and no other: the lane owes nothing to an application's own work.
    """

    def __init__(self, name: str, device: torch.device, priority: int) -> None:
        self.name = name
        self.device = device
        self.stream = torch.cuda.Stream(device, priority)
        self._epoch = torch.cuda.Event(enable_timing=True)
        self._epoch.record(self.stream)
        self._trace = Trace()
        self._untraced: deque[StreamPending[Any]] = deque()
        self._spare: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def submit(self, label: str, work: Callable[[], T], *, rows: int = 0) -> StreamPending[T]:
        events = self._spare.pop() if self._spare else (_event(), _event())
        pending: StreamPending[T] = StreamPending(label, rows, events)
        # By hand, for this is done several times a draft step, and contexts take their time.
        here = torch.cuda.current_stream()
        there = here if here.device == self.device else torch.cuda.current_stream(self.device)
        torch.cuda.nvtx.range_push(f"{self.name}: {label}")
        torch.cuda.set_stream(self.stream)
        try:
            events[0].record(self.stream)
            pending.value = guarded(self.name, label, work)
        except LaneError as error:
            pending.error = error
        finally:
            events[1].record(self.stream)
            torch.cuda.set_stream(there)
            torch.cuda.set_stream(here)
            torch.cuda.nvtx.range_pop()
        self._untraced.append(pending)
        self._trace_finished()
        return pending

    def begin(self, trace: Trace) -> None:
        """Record into `trace`, from now on. The lane is idle."""
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        self._trace = trace
        self._untraced.clear()
        self._epoch.record(self.stream)

    def drain(self) -> None:
        self.stream.synchronize()
        self._trace_finished()

    def _trace_finished(self) -> None:
        """Add a span for each piece of work that has ended, in the device's time."""
        while self._untraced and self._untraced[0].done():
            work = self._untraced.popleft()
            assert work.events is not None
            start, end = (self._epoch.elapsed_time(event) / 1e3 for event in work.events)
            self._spare.append(work.events)
            work.events = None
            self._trace.spans.append(Span(self.name, work.label, start, end, work.rows))


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)


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

    def round(self) -> AbstractContextManager[None]:
        return torch.cuda.nvtx.range("round")
