"""Which requests run: they join and leave between rounds, and one thread at a time runs a round."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from specbranch.loop import RoundLoop
from specbranch.request import Chunk, Request


class Scheduler:
    """Requests that wait and requests that run.

    They are admitted in the order in which they came, each when there is room for all that it may
    become. Nothing that runs is put back. Any thread may call any function.

    max_requests: that run at a time.
    """

    def __init__(self, loop: RoundLoop, max_requests: int) -> None:
        self._loop = loop
        self._max_requests = max_requests
        self._waiting: deque[Request] = deque()
        self._running: list[Request] = []
        self._turn = threading.Condition()
        self._taken = False  # whether some thread has the turn
        self._closed = False

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    def require_open(self) -> None:
        """Raise RuntimeError after `close`."""
        if self._closed:
            raise RuntimeError("the engine is closed")

    def add(self, request: Request) -> None:
        """Let a request wait for its turn."""
        self.require_open()
        self._waiting.append(request)

    def step(self) -> bool:
        """Run a round. Returns whether there is something left to do."""
        with self._my_turn(lambda: True):
            self._round()
        return bool(self._running or self._waiting)

    def next_chunk(self, request: Request) -> Chunk | None:
        """What was committed next, running rounds until there is something; None at the end."""
        while True:
            if request.output:
                with suppress(IndexError):  # another thread took it
                    return request.output.popleft()
            elif request.left:
                return None
            with self._my_turn(lambda: not (request.output or request.left)) as mine:
                if mine:
                    self._round()

    def let_go(self, request: Request) -> None:
        """Have a request that was cancelled leave; a round that is running is waited for."""
        with self._my_turn(lambda: not request.left) as mine:
            if mine:
                self._part()

    def close(self) -> None:
        """Cancel all requests and take no more."""
        self._closed = True
        for request in [*self._running, *self._waiting]:
            request.cancel()
            self.let_go(request)

    @contextmanager
    def _my_turn(self, wanted: Callable[[], bool]) -> Iterator[bool]:
        """The right to change what runs, which one thread at a time has; False where it is no
        longer wanted when it could be had."""
        mine = False
        try:
            with self._turn:
                self._turn.wait_for(lambda: not (self._taken and wanted()))
                if wanted():
                    mine = self._taken = True
            yield mine
        finally:
            if mine:
                with self._turn:
                    self._taken = False
                    self._turn.notify_all()

    def _round(self) -> None:
        self._part()
        self._admit()
        if not self._running:
            return
        try:
            self._loop.step(self._running)
        except BaseException as error:
            self._loop.drain()
            for request in self._running:
                request.fail(RuntimeError(f"the round was interrupted: {type(error).__name__}"))
            raise
        finally:
            self._part()

    def _part(self) -> None:
        """Let those go that have ended."""
        for request in [request for request in self._running if request.finished]:
            self._running.remove(request)
            self._loop.end(request)
            request.left = True
        for request in [request for request in self._waiting if request.finished]:
            self._waiting.remove(request)
            request.left = True

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._max_requests:
            request = self._waiting[0]
            if self._running and not self._loop.has_room(request):
                return
            self._waiting.popleft()
            try:
                self._loop.begin(request)
                self._running.append(request)
            except Exception as error:
                request.fail(error)
                request.left = True
