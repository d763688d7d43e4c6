"""A CPU that pretends to be a GPU: streams that lag behind the host, events, pinned memory, graphs.

Operations run at once, but a stream *counts* as having come no further than what the host has
waited for or seen, so that every place where the host would wait for a device is noted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import pytest
import torch

from specbranch.models import runner as runner_module
from specbranch.models import transfers
from specbranch.models.block_forward import BlockForward, BlockInputs
from specbranch.models.cuda_graphs import CapturedForward
from specbranch.models.fused import fused
from tests.replaying_capture import ReplayingCapture

PATIENCE = 3  # times that an event is asked for before it has happened


class Stream:
    """Work by the number of its last event: launched so far, and known to have run."""

    def __init__(self, device: object = None, priority: int = 0) -> None:
        self.device = device
        self.priority = priority
        self.launched = self.completed = 0
        self.behind: list[tuple[int, Stream, int]] = []

    def wait_stream(self, other: Stream) -> None:
        self.behind.append((self.launched + 1, other, other.launched))

    def reach(self, tick: int) -> None:
        """All up to `tick`, and what that waited for on other streams, is known to have run."""
        self.completed = max(self.completed, tick)
        for own, other, others in self.behind:
            if own <= tick:
                other.reach(others)
        self.behind = [entry for entry in self.behind if entry[0] > tick]

    def synchronize(self) -> None:
        self.reach(self.launched)


class Event:
    def __init__(self, enable_timing: bool = False) -> None:
        self.enable_timing = enable_timing
        self.stream: Stream | None = None
        self.asked = 0

    def record(self, stream: Stream | None = None) -> None:
        self.stream = stream or PretendedGpu.current
        self.stream.launched += 1
        self.tick = self.stream.launched
        self.asked = 0

    def query(self) -> bool:
        assert self.stream is not None
        self.asked += 1
        if self.asked > PATIENCE:
            self.stream.reach(self.tick)
        return self.stream.completed >= self.tick

    def synchronize(self) -> None:
        if self.stream is not None and self.stream.completed < self.tick:
            PretendedGpu.waits += 1
            self.stream.reach(self.tick)

    def elapsed_time(self, end: Event) -> float:
        assert self.enable_timing
        assert end.enable_timing
        assert self.stream.completed >= self.tick, "not ready"
        assert end.stream.completed >= end.tick, "not ready"
        return float(end.tick - self.tick)


class PretendedGpu:
    """What was seen of the host while everything believed in a GPU.

    waits: how often the host waited for a device. ranges: NVTX ranges, in the order of their start.
    captures: of each runner.
    """

    default = Stream()
    current = default
    waits = 0
    ranges: ClassVar[list[str]] = []
    captures: ClassVar[list[ReplayingCapture]] = []


@contextmanager
def _on(stream: Stream) -> Iterator[None]:
    before, PretendedGpu.current = PretendedGpu.current, stream
    try:
        yield
    finally:
        PretendedGpu.current = before


def _set_current(stream: Stream) -> None:
    PretendedGpu.current = stream


def _begin_range(message: str) -> None:
    PretendedGpu.ranges.append(message)


@contextmanager
def _nvtx_range(message: str) -> Iterator[None]:
    _begin_range(message)
    yield


def _captured(forward: BlockForward, buffers: BlockInputs) -> CapturedForward:
    PretendedGpu.captures.append(ReplayingCapture())
    positions = buffers.block_table.shape[1] * forward.pool.page_size
    work = fused(forward, positions) or forward
    return CapturedForward(work, buffers, PretendedGpu.captures[-1])


def pretend(monkeypatch: pytest.MonkeyPatch) -> type[PretendedGpu]:
    """Let the engine's CUDA path run on CPU tensors until the test ends."""
    pretend_streams(monkeypatch)
    PretendedGpu.captures = []
    monkeypatch.setattr(transfers, "SharedUpload", transfers.PinnedUpload)
    monkeypatch.setattr(transfers, "SharedDownload", transfers.PinnedDownload)
    monkeypatch.setattr(transfers, "_pinned", lambda size, dtype: torch.zeros(size, dtype=dtype))
    monkeypatch.setattr(runner_module, "prepared", _captured)
    return PretendedGpu


def pretend_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be streams and events, of a device that shares the host's memory."""
    PretendedGpu.waits, PretendedGpu.ranges = 0, []
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "stream", _on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: PretendedGpu.current)
    monkeypatch.setattr(torch.cuda, "set_stream", _set_current)
    monkeypatch.setattr(torch.cuda.nvtx, "range", _nvtx_range)
    monkeypatch.setattr(torch.cuda.nvtx, "range_push", _begin_range)
    monkeypatch.setattr(torch.cuda.nvtx, "range_pop", lambda: None)
