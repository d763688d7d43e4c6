"""A draft on CPU threads beside a target on a GPU."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager

import torch

from specbranch.lanes.base import Lanes
from specbranch.lanes.cuda import NORMAL_PRIORITY, StreamLane
from specbranch.lanes.threads import ThreadLane, usable_cores
from specbranch.trace import Trace


class MixedLanes(Lanes):
    """The draft on a worker thread of this process, the target on a stream of its device.

    draft_threads: cores of the draft, half of those that this process may use by default: the
        others launch the target's kernels.
    Raises ValueError if the draft asks for more cores than there are.
    """

    draft: ThreadLane
    target: StreamLane

    def __init__(self, target_device: torch.device, draft_threads: int | None = None) -> None:
        cores = usable_cores()
        threads = max(1, len(cores) // 2) if draft_threads is None else draft_threads
        if not 1 <= threads <= len(cores):
            raise ValueError(f"draft_threads: expected 1 to {len(cores)} cores, got {threads}")
        self.draft = ThreadLane("draft", cores[-threads:], threads)
        self.target = StreamLane("target", target_device, NORMAL_PRIORITY)

    def begin(self) -> Trace:
        trace = Trace()
        self.draft.trace = trace
        self.target.begin(trace)
        self.draft.epoch = self._epoch = time.perf_counter()
        return trace

    def now(self) -> float:
        return time.perf_counter() - self._epoch

    def round(self) -> AbstractContextManager[None]:
        return torch.cuda.nvtx.range("round")
