"""A thread that does what it is given, in order."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable, Collection
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import torch

T = TypeVar("T")

LOOK_AGAIN_S = 1.0


class Job(Generic[T]):
    """Work for a worker. A Future would not do: a signal that comes while its lock is being taken
    leaves it locked, and the worker waits for it for ever."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work: Callable[[], T] | None = work
        self._value: T | None = None
        self._error: BaseException | None = None
        self._done = False
        self._running = threading.Lock()
        self._running.acquire()

    def run(self) -> None:
        """Do it, and let go of all that it holds."""
        assert self._work
        try:
            self._value = self._work()
        except BaseException as error:
            self._error = error
        self._work = None
        self._done = True
        self._running.release()

    def done(self) -> bool:
        """Whether the result is there."""
        return self._done

    def result(self) -> T:
        """Wait for what the work returned, or raise what it raised."""
        while not self._done:  # a thread that is interrupted may keep the lock
            if self._running.acquire(timeout=LOOK_AGAIN_S):
                self._running.release()
        try:
            if self._error is not None:
                raise self._error
            return self._value  # type: ignore[return-value]
        finally:
            del self  # which the error's traceback would hold


Todo = SimpleQueue[Job[Any] | None]


class Worker:
    """One thread, from the start to `close` or until nobody holds the worker.

    It is running before anything can be submitted, and `submit` is one step that a signal cannot
    split: whatever is interrupted, all work runs on this thread, in order.
    cores: that it keeps to, if that is permitted. threads: of torch's, for what it does.
    """

    def __init__(self, name: str, cores: Collection[int], threads: int) -> None:
        self._todo: Todo = SimpleQueue()
        self._process = os.getpid()
        self._closed = False
        # It holds the queue alone: holding the worker, it would keep that, and itself, for good.
        arguments = self._todo, frozenset(cores), threads
        self._thread = _Serving(target=_serve, args=arguments, name=name, daemon=True)
        self._thread.todo = self._todo
        weakref.finalize(self, self._todo.put, None).atexit = False
        self._thread.start()

    def submit(self, work: Callable[[], T]) -> Job[T]:
        """Have it done. Raises RuntimeError after `close`, and in a forked child, where there is no
        such thread."""
        if self._closed:
            raise RuntimeError("lanes: these are closed")
        if not self._is_here():
            raise RuntimeError(
                "lanes: their threads stayed in the process that was forked; make an engine in "
                "the child"
            )
        job = Job(work)
        self._todo.put(job)
        return job

    def drain(self) -> None:
        """Wait until all is done."""
        if self._is_here() and not self._closed:
            self.submit(int).result()

    def close(self) -> None:
        """Wait until all is done, and end the thread."""
        if not self._closed:
            self._closed = True
            self._todo.put(None)
        if self._is_here():
            self._thread.join()

    def _is_here(self) -> bool:
        return os.getpid() == self._process


class _Serving(threading.Thread):
    todo: Todo


def _serve(todo: Todo, cores: Collection[int], threads: int) -> None:
    with suppress(OSError):  # where a sandbox forbids it
        os.sched_setaffinity(0, cores)
    torch.get_num_threads()  # whose first call in a thread sets what any other asked for last
    torch.set_grad_enabled(False)  # ops look whether a gradient is to pass only where one may
    torch._C.set_num_threads(threads)  # torch.set_num_threads does nothing inside vLLM on a CPU
    while job := todo.get():
        job.run()
        del job  # which may hold the worker


@atexit.register
def _end_all() -> None:
    """No thread may be inside torch when the interpreter goes."""
    for thread in threading.enumerate():
        if isinstance(thread, _Serving):
            thread.todo.put(None)
            thread.join()
