"""Which requests run: they join and leave between rounds, and one thread at a time runs a round."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from specbranch.loop import RoundLoop
from specbranch.request import Chunk, Request

LOOK_AGAIN_S = 1.0


class Scheduler:
    """Requests that wait and requests that run.

    They are admitted in the order in which they came, each when there is room for all that it may
    become. Nothing that runs is put back. Any thread may call any function, and a signal may
    interrupt it anywhere: the requests of a round that was cut short end, others are as they would
    have been. In a forked child nothing runs.

    max_requests: that run at a time.
    """

    def __init__(self, loop: RoundLoop, max_requests: int) -> None:
        self._loop = loop
        self._max_requests = max_requests
        self._waiting: deque[Request] = deque()
        self._running: list[Request] = []
        # Entered directly: a signal can come between a Condition's own lock and its caller.
        self._lock = threading.Lock()
        self._turn = threading.Condition(self._lock)
        self._owner: int | None = None  # the thread that has the turn
        self._process = os.getpid()
        self._cut = False  # whether a round began, and its work may not have ended
        self._closed = False

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    def require_open(self) -> None:
        """Raise RuntimeError after `close`, and in a forked child."""
        if self._closed:
            raise RuntimeError("the engine is closed")
        if self._forked():
            raise RuntimeError(
                "the engine is in the process that was forked; make another in the child"
            )

    def add(self, request: Request) -> None:
        """Let a request wait for its turn."""
        self.require_open()
        self._waiting.append(request)

    def step(self) -> bool:
        """Run a round. Returns whether there is something left to do."""
        self._in_my_turn(lambda: True, self._round)
        return bool(self._running or self._waiting)

    def next_chunk(self, request: Request) -> Chunk | None:
        """What was committed next, running rounds until there is something; None at the end."""
        while True:
            if request.output:
                with suppress(IndexError):  # another thread took it
                    return request.output.popleft()
            elif request.left:
                return None
            else:
                self._in_my_turn(lambda: not (request.output or request.left), self._round)

    def let_go(self, request: Request) -> None:
        """Have a request that was cancelled leave; a round that is running is waited for, but for
        one that this very thread runs, with which it leaves."""
        if self._owner != threading.get_ident() and not self._forked():
            self._in_my_turn(lambda: not request.left, self._part)

    def close(self) -> None:
        """Cancel all requests and take no more."""
        self._closed = True
        for request in [*self._running, *self._waiting]:
            request.cancel()
            self.let_go(request)

    def _forked(self) -> bool:
        return os.getpid() != self._process

    def _in_my_turn(self, wanted: Callable[[], bool], work: Callable[[], None]) -> None:
        """Do what changes what runs, which one thread at a time may, unless it is no longer wanted
        when it could be done.

        Raises RuntimeError in a round of this very thread, and in a forked child.
        """
        me = threading.get_ident()
        if self._forked() or self._owner == me:
            where = "in a forked child" if self._forked() else "within another"
            raise RuntimeError(f"the engine: a round cannot run {where}")
        try:
            with self._lock:
                # At times looks for itself: a thread that is interrupted may not tell.
                while not self._turn.wait_for(lambda: not (self._owner and wanted()), LOOK_AGAIN_S):
                    pass
                if not wanted():
                    return
                self._owner = me
            work()
        finally:
            if self._owner == me:
                self._owner = None
                with self._lock:
                    self._turn.notify_all()

    def _round(self) -> None:
        self._part()
        self._admit()
        if not self._running:
            return
        self._cut = True
        try:
            self._loop.step(self._running)
            self._cut = False
        except BaseException as error:
            for request in self._running:
                request.fail(RuntimeError(f"the round was interrupted: {type(error).__name__}"))
            raise
        finally:
            self._part()

    def _part(self) -> None:
        """Let those go that have ended; what a round that was cut short left running may still
        write to what they hold, and is waited for."""
        if self._cut:
            self._loop.drain()
            self._cut = False
        for request in [request for request in self._running if request.finished]:
            self._running.remove(request)
            try:
                self._loop.end(request)
            finally:
                request.left = True
        for request in [request for request in self._waiting if request.finished]:
            self._waiting.remove(request)
            request.left = True

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._max_requests:
            request = self._waiting[0]
            if self._running and not self._loop.has_room(request):
                return
            try:
                self._waiting.popleft()
                self._loop.begin(request)
                self._running.append(request)
            except Exception as error:
                request.fail(error)
                request.left = True
            except BaseException as error:
                request.fail(RuntimeError(f"the request was interrupted: {type(error).__name__}"))
                request.left = True
                raise
