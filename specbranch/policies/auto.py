"""Best-first growth that knows what rows cost, and when not to draft at all."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from specbranch.policies.base import Outcome, Policy
from specbranch.policies.best_first import BestFirst
from specbranch.policies.costs import RowTimes
from specbranch.tree import Node, SpeculationTree

MEMORY = 0.9  # share of what is known about the pace that a round leaves
TRIAL = 4  # rounds for which another way of working is tried
FIRST_STAY, LONGEST_STAY = 16, 256  # rounds between two trials


class CostAware(BestFirst):
    """Best-first growth with as many rows as pay for themselves.

    Tokens have a price in seconds: those that one takes at the present pace. A row is submitted if
    its chance is worth more than what it adds to the target's forward; a draft step takes the rows
    that bring most a second, and takes place if that is worth the seconds that the target waits.

    What forwards cost is learnt from the spans of the lanes, by rows. rows_draft, rows_target: rows
    at most.
    """

    def __init__(self, rows_draft: int = 16, rows_target: int = 64, fan: int = 16) -> None:
        super().__init__(rows_draft, rows_target, fan)
        self.forget()

    def forget(self) -> None:
        self.draft_seconds, self.target_seconds = RowTimes(), RowTimes()
        self._tokens = self._seconds = 0.0

    def begin(self) -> None:
        super().begin()
        self._expected = 1.0
        self._first_round = True

    @property
    def pace(self) -> float:
        """Expected tokens a second, of late; 0 before anything is known.

        Tokens that were expected, not those that came: far fewer rounds tell as much.
        """
        return self._tokens / self._seconds if self._seconds else 0.0

    def grow(self, tree: SpeculationTree, busy: bool, step: int) -> Sequence[Node]:
        if not (self.pace and self.draft_seconds):
            return super().grow(tree, busy, step)
        if step == 0:
            self._time_left = self.target_seconds(len(tree.submitted)) if busy else 0.0
        best = self._candidates(tree)
        rows = self._rows_of_step(best, 1.0 if busy else self.early)
        self._time_left -= self.draft_seconds(rows) if rows else 0.0
        return best[:rows]

    def submit(self, tree: SpeculationTree) -> Sequence[Node]:
        rows = super().submit(tree)
        tokens = list(accumulate(node.estimate for node in rows))
        if self.pace:
            worth = [
                expected - self.pace * self.target_seconds(count)
                for count, expected in enumerate(tokens, start=1)
            ]
            rows = rows[: 1 + worth.index(max(worth))]
        self._expected = tokens[len(rows) - 1]
        return rows

    def observe(self, outcome: Outcome) -> None:
        super().observe(outcome)
        if self._first_round:  # it has the prefill in it
            self._first_round = False
            return
        for span in outcome.spans:
            if span.rows:
                seconds = self.draft_seconds if span.lane == "draft" else self.target_seconds
                seconds.learn(span.rows, span.end - span.start)
        self._tokens = MEMORY * self._tokens + self._expected
        self._seconds = MEMORY * self._seconds + outcome.seconds

    def _rows_of_step(self, best: Sequence[Node], share: float) -> int:
        """How many of the likeliest nodes the next step should expand, 0 for no step."""
        best_rate, best_rows = 0.0, 0
        for rows, tokens in enumerate(accumulate(node.estimate for node in best), start=1):
            seconds = self.draft_seconds(rows)
            waiting = max(0.0, seconds - max(0.0, self._time_left))
            rate = (share * tokens - self.pace * waiting) / seconds
            if rate > best_rate:
                best_rate, best_rows = rate, rows
        return best_rows


class InSeries(CostAware):
    """Grows only while the target is idle: nothing slows the target down."""

    early = 1.0

    def grow(self, tree: SpeculationTree, busy: bool, step: int) -> Sequence[Node]:
        return () if busy else super().grow(tree, busy, step)


class Alone(CostAware):
    """Grows nothing: plain decoding, once what had grown before is used up."""

    def grow(self, tree: SpeculationTree, busy: bool, step: int) -> Sequence[Node]:
        return ()


class Auto(Policy):
    """Cost-aware best-first growth, both models at once or by turns, or plain decoding: whichever
    is fastest on this pair, this machine and this text.

    It works in one of these ways and, at intervals, tries another for a few rounds. As long as that
    teaches nothing new the intervals double; when another way is faster, it stays there and they
    start small again. So drafting ends where it loses, on a saturated machine or with guesses that
    are never right, and comes back.

    rows_draft, rows_target: rows of a forward, at most. fan: children of a node, at most.
    """

    name = "auto"
    overlaps = True

    def __init__(self, rows_draft: int = 16, rows_target: int = 64, fan: int = 16) -> None:
        self.max_fan = fan
        self.ways = [way(rows_draft, rows_target, fan) for way in (CostAware, InSeries, Alone)]
        self.forget()

    def forget(self) -> None:
        for way in self.ways:
            way.forget()
        self.current = self._settled = self.ways[0]
        self._tried = 0
        self._stay = FIRST_STAY
        self._rounds_left = self._stay

    def begin(self) -> None:
        for way in self.ways:
            way.begin()

    def grow(self, tree: SpeculationTree, busy: bool, step: int) -> Sequence[Node]:
        return self.current.grow(tree, busy, step)

    def fan(self, node: Node) -> int:
        return self.current.fan(node)

    def submit(self, tree: SpeculationTree) -> Sequence[Node]:
        return self.current.submit(tree)

    def observe(self, outcome: Outcome) -> None:
        self.current.observe(outcome)
        self._rounds_left -= 1
        if self._rounds_left > 0:
            return
        if self.current is self._settled:
            self._try_another()
        else:
            self._settle()

    def _try_another(self) -> None:
        others = [way for way in self.ways if way is not self._settled]
        self.current = others[self._tried % len(others)]
        self._tried += 1
        self._rounds_left = TRIAL

    def _settle(self) -> None:
        """Stay with the faster of what was tried and what was done before."""
        if self.current.pace > self._settled.pace:
            self._settled, self._stay = self.current, FIRST_STAY
        else:
            self.current, self._stay = self._settled, min(2 * self._stay, LONGEST_STAY)
        self._rounds_left = self._stay
