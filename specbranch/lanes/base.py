"""Lanes: one model's work, in order, at the same time as other lanes' work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Protocol, TypeVar

import torch

from specbranch.trace import Trace

_KINDS = ("cpu", "cuda")  # of devices

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class LaneError(RuntimeError):
    """Work on a lane failed; `__cause__` is what it raised."""

    def __init__(self, lane: str, label: str, cause: Exception) -> None:
        super().__init__(f"{lane} lane, {label}: {type(cause).__name__}: {cause}")


def guarded(lane: str, label: str, work: Callable[[], T]) -> T:
    """Run `work`; raises LaneError, which says where it failed, from what it raised.

    A lane that works in its caller's thread is under that one's autocast, which is none of ours.
    """
    try:
        if any(map(torch.is_autocast_enabled, _KINDS)):
            with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
                return work()
        return work()
    except Exception as error:
        raise LaneError(lane, label, error) from error


class Pending(Protocol[T_co]):
    """Work handed to a lane."""

    def done(self) -> bool:
        """Whether the result is there, without waiting."""
        ...

    def result(self) -> T_co:
        """Wait for the result; raises LaneError if the work failed.

        Tensors in it are for later work of the same lane, which on a stream they need not precede
        in time but only in order.
        """
        ...


class Lane(ABC):
    """Runs work in the order in which it is submitted, and records a span for each piece."""

    name: str

    @abstractmethod
    def submit(self, label: str, work: Callable[[], T], *, rows: int = 0) -> Pending[T]:
        """Start `work` and return at once.

        rows: tokens that a model forward computes, 0 for work that is no decoding forward.
        """

    def run(self, label: str, work: Callable[[], T], *, rows: int = 0) -> T:
        """Submit `work` and wait for its result."""
        return self.submit(label, work, rows=rows).result()

    @abstractmethod
    def drain(self) -> None:
        """Wait until the lane is idle, whatever became of its work."""

    def close(self) -> None:
        """Finish what was submitted and give back what the lane holds."""
        self.drain()


LanesT = TypeVar("LanesT", bound="Lanes")


class Lanes(ABC):
    """A draft lane and a target lane under one clock. Use as a context manager, or close()."""

    draft: Lane
    target: Lane

    @abstractmethod
    def begin(self) -> Trace:
        """Start a request: its trace, with the lanes' clock at zero."""

    @abstractmethod
    def now(self) -> float:
        """Seconds of the lanes' clock since the request began."""

    def round(self) -> AbstractContextManager[None]:
        """What to run a round of the loop in, for lanes whose profiler shows it."""
        return nullcontext()

    def drain(self) -> None:
        """Wait until both lanes are idle."""
        try:
            self.draft.drain()
        finally:
            self.target.drain()

    def close(self) -> None:
        """Give back what the lanes hold. They cannot be used afterwards."""
        self.draft.close()
        self.target.close()

    def __enter__(self: LanesT) -> LanesT:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
