"""Drafting beside the target."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from specbranch.costs.learnt import averaged
from specbranch.drafting.drafter import Drafter, Steps, Text
from specbranch.drafting.forms import Answer, Form
from specbranch.lanes import Lane
from specbranch.sources.source import Source


class ThreadedDrafter(Drafter):
    """Drafts in a thread of its own, as far as it comes until the next answer is wanted.

    Arguments are a Drafter's.
    """

    def __init__(self, source: Source, lane: Lane, form: Form, **sizes: Any) -> None:
        super().__init__(source, lane, form, **sizes)
        self._draft_s, self._target_s = Average(), Average()
        self._answered = 0.0  # when
        self._news = self._closed = False
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="specbranch-drafter", daemon=True)
        self._thread.start()

    def propose(self, news: Mapping[Text, Sequence[int]]) -> list[Answer]:
        if any(news.values()) and self._answered:
            self._target_s.learn(time.perf_counter() - self._answered)
        self._raise_failure()
        answers = super().propose(news)
        self._answered = time.perf_counter()
        return answers

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def done(self) -> bool:
        """Whether there is something else to do than to draft on; it is the target's `Forward`."""
        return self._news or self._closed

    @property
    def _cost_ratio(self) -> float:
        draft, target = self._draft_s.value, self._target_s.value
        return target / draft if draft and target else self._policy.cost_ratio

    def _await_catch_up(self) -> None:
        self._go_on()
        with self._changed:
            self._changed.wait_for(lambda: not self._asked or self._failure)
        self._raise_failure()

    def _go_on(self) -> None:
        with self._changed:
            self._news = True
            self._changed.notify_all()

    def _raise_failure(self) -> None:
        if self._failure:
            raise self._failure

    def _work(self) -> None:
        try:
            while self._wait_for_news():
                self._catch_up()
                self._draft_on()
        except Exception as error:
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _wait_for_news(self) -> bool:
        """Returns whether there are any; there are none once it is closed."""
        with self._changed:
            self._changed.wait_for(self.done)
            self._news = False
        return not self._closed

    def _draft_on(self) -> None:
        """Read a chunk and make a step by turns, then make steps."""
        reading = True
        while reading:
            unread = self._unread()
            if unread:
                self._read(unread[0])
            began = time.perf_counter()
            if steps := self._grow(self._growing(), Steps(1) if unread else self):
                self._draft_s.learn((time.perf_counter() - began) / steps)
            reading = bool(unread) and not self.done()


class Average:
    """A mean of what came of late; 0 before anything did."""

    def __init__(self) -> None:
        self.value = 0.0

    def learn(self, observed: float) -> None:
        """Take in an observation."""
        self.value = averaged(self.value or observed, observed)
