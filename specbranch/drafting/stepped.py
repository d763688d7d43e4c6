"""Drafting by turns with the target, so many steps a turn."""

from __future__ import annotations

import math
from typing import Any

from specbranch.checks import require_positive
from specbranch.drafting.drafter import Drafter, Steps
from specbranch.drafting.forms import Form
from specbranch.lanes import Lane
from specbranch.sources.source import Source


class SteppedDrafter(Drafter):
    """Drafts in the caller's thread, so many steps after each answer, as if a target forward took
    that long: what it says depends on nothing but the texts. It reads a prompt at once.

    steps: at least 1. Other arguments are a Drafter's.
    """

    def __init__(self, source: Source, lane: Lane, form: Form, *, steps: int, **sizes: Any) -> None:
        super().__init__(source, lane, form, **sizes)
        require_positive(steps=steps)
        self._steps = steps

    def close(self) -> None:
        """There is nothing to stop."""

    @property
    def _cost_ratio(self) -> float:
        return self._steps if self._takes_cores else math.inf

    def _await_catch_up(self) -> None:
        self._catch_up()

    def _go_on(self) -> None:
        self._catch_up()
        while unread := self._unread():
            self._read(unread[0])
        self._grow(self._growing(), Steps(self._steps))
