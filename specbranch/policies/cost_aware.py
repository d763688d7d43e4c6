"""Best-first growth that knows what rows cost: beside the target, by turns, or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from specbranch.costs.learnt import Costs
from specbranch.policies.base import Outcome
from specbranch.policies.best_first import BestFirst
from specbranch.policies.prospects import Prospects

if TYPE_CHECKING:
    from specbranch._C import Tree

Floats = NDArray[np.float64]

MEMORY = 0.9  # share of what is known about the pace that a round leaves
# Share of the likeliest node's chance below which a node only fills the draft's block.
FILLER = 0.01
WORTH = 1.1  # contention, and times plain decoding's pace, from which on another way is tried
CERTAIN = 0.97  # of plain decoding's pace


class Pace:
    """Expected tokens a second, of late.

    Tokens that were expected, not those that came: far fewer rounds tell as much.
    """

    def __init__(self) -> None:
        self._tokens = self._seconds = 0.0

    @property
    def tokens_per_s(self) -> float:
        """0 before anything is known."""
        return self._tokens / self._seconds if self._seconds else 0.0

    def learn(self, tokens: float, seconds: float) -> None:
        """Take in a round."""
        self._tokens = MEMORY * self._tokens + tokens
        self._seconds = MEMORY * self._seconds + seconds

    def start_from(self, tokens_per_s: float) -> None:
        """Forget what is known; the given pace, unless it is 0, counts as one token."""
        self._tokens, self._seconds = (1.0, 1 / tokens_per_s) if tokens_per_s else (0.0, 0.0)


class Shares:
    """How many rows requests' trees have in the target's next forward.

    rows: of all of them. counts: of each tree, until it is submitted.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.counts: dict[Tree, int] = {}


class CostAware(BestFirst):
    """Best-first growth with as many rows as pay for themselves.

    Tokens have a price in seconds: those that one takes at the present pace. A row is submitted if
    its chance is worth more than what it adds to the target's forward; a draft step takes the rows
    that bring most a second, and takes place if that is worth the seconds that the target waits, or
    is slowed down beside it.
    It starts as best-first growth at its defaults. Once costs are known and as long as no pace is,
    it submits the rows that bring most a second. A forward has at most twice the rows that any had
    before, or that it has requests.

    The rows of several requests compete for one forward: the likeliest are submitted, whoever's
    they are. As requests become many, no row is worth what it adds.

    costs: what forwards cost by rows, learnt from the lanes' spans; perhaps shared with others.
    prospects: what is known of requests; perhaps shared, too.
    rows_draft, rows_target: rows at most. fan: children of a node, at most.
    """

    beside = True  # both models work at once

    def __init__(
        self, costs: Costs, prospects: Prospects, rows_draft: int, rows_target: int, fan: int
    ) -> None:
        super().__init__(fan=fan)
        self.rows_draft = min(self.rows_draft, rows_draft)
        self.rows_target = min(self.rows_target, rows_target)
        self._limits = rows_draft, rows_target
        self.costs = costs
        self.prospects = prospects
        self.pace = Pace()
        self.requests = 1  # in the latest round
        self.shares = Shares()
        self._expected = 1.0
        self._time_left = 0.0  # of the target's forward

    @property
    def tokens_per_s(self) -> float:
        """Pace of all requests, with what the draft reads before it guesses; 0 if unknown."""
        pace = self.pace.tokens_per_s
        return pace and 1 / (1 / pace + self.prospects.reading_a_token)

    def promises(self, settled: CostAware) -> bool:
        """Whether it could be faster than this way, as far as is known without trying."""
        draft, target, requests = self.costs.draft, self.costs.target, settled.requests
        if settled.drafts or not (draft(1) and target(1)):
            return True
        hidden = 1 - self.costs.slowdown if self.beside else 0.0
        least = self.prospects.seconds_a_token(draft, target, requests, hidden)
        return WORTH * least * settled.tokens_per_s < 1

    def grow(self, tree: Tree, busy: bool, step: int) -> Sequence[int]:
        if not (self.costs.draft(1) and (busy or self.pace.tokens_per_s)):
            return super().grow(tree, busy, step)
        if step == 0:
            self._time_left = self.costs.target(self.shares.rows) if busy else 0.0
        in_all = max(self.rows_draft, 2 * self.costs.draft.most)
        most = min(self._limits[0], max(1, in_all // self.requests))
        best = tree.frontier(most)
        # What grows beside a forward is submitted only where the walk comes by.
        share, price = (1.0, 0.0) if busy else (self.early, self._price_of_row())
        rows = self._rows_of_step(tree.estimates(best), share, price)
        self._time_left -= self.costs.draft(rows * self.requests)
        return best[:rows]

    def survey(self, trees: Sequence[Tree]) -> None:
        """Share one forward's rows out among all requests."""
        in_all = max(self.rows_target, 2 * len(trees), 2 * self.costs.target.most)
        most = min(self._limits[1], in_all)
        chances = [tree.estimates(tree.likeliest(most)) for tree in trees]
        if max(map(len, chances)) == 1:  # nothing to choose
            self.shares.rows, self.shares.counts = len(trees), dict.fromkeys(trees, 1)
            return
        # Every request has its root's row; the others are taken by their chances.
        owners = np.repeat(np.arange(len(trees)), [len(each) - 1 for each in chances])
        guesses = np.concatenate([each[1:] for each in chances])
        order = np.argsort(-guesses, kind="stable")
        expected = len(trees) + np.concatenate([[0.0], np.cumsum(guesses[order])])
        seconds = self.costs.target.up_to(len(trees) + len(guesses))
        within = slice(1 + in_all - len(trees))
        taken = self._most_worth(expected[within], seconds[len(trees) :][within])
        counts = 1 + np.bincount(owners[order[:taken]], minlength=len(trees))
        self.shares.rows = len(trees) + taken
        self.shares.counts = dict(zip(trees, counts.tolist(), strict=True))

    def submit(self, tree: Tree) -> Sequence[int]:
        if tree not in self.shares.counts:
            self.survey([tree])
        rows = tree.likeliest(self.shares.counts.pop(tree))
        self._expected = sum(tree.estimates(rows))
        return rows

    def observe(self, outcome: Outcome) -> None:
        super().observe(outcome)
        self.costs.learn(outcome.spans)
        self.prospects.learn(outcome)
        self.requests = outcome.requests

    def learn(self, outcome: Outcome) -> None:
        """Take in a round's pace."""
        self.pace.learn(self._expected, outcome.seconds / outcome.requests)

    def start_from(self, settled: CostAware) -> None:
        """Begin a trial, after that way was in use."""
        self.pace.start_from(settled.pace.tokens_per_s)

    def _most_worth(self, expected: Floats, seconds: Floats) -> int:
        """The number of further rows with which a forward is worth most, by its expected tokens and
        its seconds with so many."""
        pace = self.pace.tokens_per_s
        if pace or not seconds[0]:
            return int(np.argmax(expected - pace * seconds))
        return int(np.argmax(expected / seconds))

    def _rows_of_step(self, chances: Sequence[float], share: float, price: float) -> int:
        """How many of the likeliest nodes the next step should expand, 0 for no step; only that
        share of what they are worth above the price counts."""
        pace, slowdown = self.pace.tokens_per_s, self.costs.slowdown
        time_left = max(0.0, self._time_left)
        # A step is for all requests: as if the others wanted as many rows, of as much use.
        seconds = self.costs.draft.up_to(self.requests * len(chances))[:: self.requests].tolist()
        added, best, count = 0.0, 0.0, 0
        for row, chance in enumerate(chances, start=1):
            if chance < FILLER * chances[0]:
                break
            added += self.requests * share * max(0.0, chance - price)
            step = seconds[row]
            waiting = max(0.0, step - time_left)
            rate = (added - pace * (waiting + slowdown * (step - waiting))) / step
            if rate > best:
                best, count = rate, row
        return count

    def _price_of_row(self) -> float:
        """Tokens for which a further row of each request pays in the target's forward."""
        rows, times = self.shares.rows, self.costs.target
        added = max(0.0, times(rows + self.requests) - times(rows))
        return self.pace.tokens_per_s * added / self.requests


class InSeries(CostAware):
    """Grows only while the target is idle: nothing slows the target down."""

    early = 1.0
    beside = False

    def promises(self, settled: CostAware) -> bool:
        return super().promises(settled) and (
            not settled.beside or settled.costs.contention > WORTH
        )

    def grow(self, tree: Tree, busy: bool, step: int) -> Sequence[int]:
        return () if busy else super().grow(tree, busy, step)


class Alone(CostAware):
    """Grows nothing: plain decoding, once what had grown before is used up."""

    drafts = False
    beside = False

    @property
    def tokens_per_s(self) -> float:
        return self.pace.tokens_per_s

    def promises(self, settled: CostAware) -> bool:
        if not self.costs.target.most:  # the cheapest way to learn what drafting beside costs
            return True
        return settled.tokens_per_s * self.costs.target(settled.requests) < settled.requests

    def outruns(self, settled: CostAware) -> bool:
        """Whether it is faster for certain: its pace depends on no guess, so once its few rows were
        seen it need not be tried again to be known."""
        requests, times = settled.requests, self.costs.target
        known = times.fewest <= requests
        return known and 0 < times(requests) * settled.tokens_per_s < CERTAIN * requests

    def grow(self, tree: Tree, busy: bool, step: int) -> Sequence[int]:
        return ()

    def start_from(self, settled: CostAware) -> None:
        """Begin a trial. Nothing of what drafting costs tells what this does."""
        self.pace.start_from(0.0)
