"""CPU lanes: a worker thread each, with its own cores and its own number of threads."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from specbranch import _C, cgroup
from specbranch.lanes.base import Lane, Lanes, guarded
from specbranch.lanes.worker import Job, Worker
from specbranch.trace import Span, Trace

T = TypeVar("T")


def usable_cores() -> list[int]:
    """The cores this process may use, as many as its affinity and its cgroups' quota allow.

    Hardware threads of one core are side by side, so that disjoint lanes do not share a core's
    execution units unless they must.
    """

    def first_sibling(core: int) -> int:
        siblings = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
        try:
            return int(re.split("[,-]", siblings.read_text())[0])
        except (OSError, ValueError):
            return core

    cores = sorted(permitted_cores(), key=lambda core: (first_sibling(core), core))
    return cores[: max(1, int(min(len(cores), cgroup.quota())))]


def permitted_cores() -> set[int]:
    """The cores this process may be on, all where a sandbox forbids to ask."""
    try:
        return os.sched_getaffinity(0)
    except OSError:
        return set(range(os.cpu_count() or 1))


class ThreadLane(Lane):
    """One worker thread that owns `cores`.

    The worker's pinning is inherited by the OpenMP threads it starts, so that torch's kernels,
    whatever number of threads another lane asked for, stay on this lane's cores. Where it is not
    permitted the lane works unpinned.
    """

    def __init__(self, name: str, cores: Sequence[int], threads: int) -> None:
        self.name = name
        self.cores = tuple(cores)
        self.threads = threads
        self.trace = Trace()
        self.epoch = 0.0
        self._worker = Worker(f"specbranch-{name}", cores, threads)

    def submit(self, label: str, work: Callable[[], T], *, rows: int = 0) -> Job[T]:
        return self._worker.submit(partial(self._traced, label, work, rows))

    def borrow(self, other: ThreadLane) -> None:
        """Use another lane's cores too while that runs no forward in one call."""
        self._worker.submit(partial(_C.lend_cores, other.cores)).result()

    def drain(self) -> None:
        self._worker.drain()

    def close(self) -> None:
        self._worker.close()

    def _traced(self, label: str, work: Callable[[], T], rows: int) -> T:
        start = time.perf_counter()
        try:
            return guarded(self.name, label, work)
        finally:
            end = time.perf_counter()
            self.trace.spans.append(
                Span(self.name, label, start - self.epoch, end - self.epoch, rows)
            )


class ThreadLanes(Lanes):
    """Draft and target on worker threads of this process.

    draft_threads, target_threads: cores of each lane. Where there are enough cores for both, they
    are disjoint; otherwise the lanes share what there is.
    Raises ValueError if a lane asks for no core or for more than this process may use.
    """

    draft: ThreadLane
    target: ThreadLane

    def __init__(self, draft_threads: int, target_threads: int) -> None:
        cores = usable_cores()
        for name, threads in (("draft_threads", draft_threads), ("target_threads", target_threads)):
            if not 1 <= threads <= len(cores):
                raise ValueError(f"{name}: expected 1 to {len(cores)} cores, got {threads}")
        self.target = ThreadLane("target", cores[:target_threads], target_threads)
        self.draft = ThreadLane("draft", cores[-draft_threads:], draft_threads)

    @classmethod
    def for_overlap(cls) -> ThreadLanes:
        """Disjoint halves of the cores: for policies whose lanes work at the same time.

        Where a forward runs in one call, its lane has the other's cores too while that is idle.
        """
        cores = len(usable_cores())
        draft = max(1, cores // 2)
        lanes = cls(draft, max(1, cores - draft))
        if cores > 1:
            lanes.draft.borrow(lanes.target)
            lanes.target.borrow(lanes.draft)
        return lanes

    @classmethod
    def for_turns(cls) -> ThreadLanes:
        """All cores for the target, half of them for the draft: for lanes that work by turns.

        A draft's operations are too small for many threads: on two cores of an AMD EPYC, a step of
        SmolLM2-135M in int4 takes 15.8 ms on one and 21.5 ms on both.
        """
        cores = len(usable_cores())
        return cls(max(1, cores // 2), cores)

    def begin(self) -> Trace:
        trace = Trace()
        self.draft.trace = self.target.trace = trace
        self.draft.epoch = self.target.epoch = self._epoch = time.perf_counter()
        return trace

    def now(self) -> float:
        return time.perf_counter() - self._epoch
