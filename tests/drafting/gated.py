"""A source that makes each step when it is told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from specbranch.lanes import Lane
from specbranch.sources import Guesses, Source, Wanted

PATIENCE = 30.0  # seconds until a test gives up


class GatedSource(Source):
    """Each token is followed by the next number, perhaps by the one after.

    permits: a step takes one, and waits for it.
    """

    max_nodes = 64
    takes_cores = False

    def __init__(self) -> None:
        self.permits = threading.Semaphore(0)
        self.error: Exception | None = None

    def guess(self, lane: Lane, wanted: Sequence[Wanted], steps: int) -> Guesses:
        assert self.permits.acquire(timeout=PATIENCE)
        if self.error:
            raise self.error
        tokens = [token for request, nodes in wanted for token in request.tree.tokens(nodes)]
        return Guesses.of([{token + 1: 0.8, token + 2: 0.1} for token in tokens], 2)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)
