"""Best-first growth that knows what rows cost, and when not to draft at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from specbranch.costs.learnt import Costs
from specbranch.policies.base import Outcome, Policy
from specbranch.policies.best_first import BestFirst

if TYPE_CHECKING:
    from typing import Self

    from specbranch._C import Tree

FIRST_ROWS = 8  # of a forward, as long as nothing is known
MEMORY = 0.9  # share of what is known about the pace that a round leaves
# Share of the likeliest node's chance below which a node only fills the draft's block.
FILLER = 0.01
TRIAL = 4  # rounds for which another way of working is tried
FIRST_STAY = 16  # rounds between two trials, to begin with


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


class CostAware(BestFirst):
    """Best-first growth with as many rows as pay for themselves.

    Tokens have a price in seconds: those that one takes at the present pace. A row is submitted if
    its chance is worth more than what it adds to the target's forward; a draft step takes the rows
    that bring most a second, and takes place if that is worth the seconds that the target waits.

    costs: what forwards cost by rows, learnt from the lanes' spans; perhaps shared with others.
    rows_draft, rows_target: rows at most. fan: children of a node, at most.
    """

    longest_stay = 256  # rounds between two trials, at most

    def __init__(self, costs: Costs, rows_draft: int, rows_target: int, fan: int) -> None:
        super().__init__(rows_draft, rows_target, fan)
        self.costs = costs
        self.pace = Pace()
        self._expected = 1.0
        self._time_left = 0.0  # of the target's forward

    def promises(self, pace: float) -> bool:
        """Whether it could be faster than `pace`, as far as is known without trying."""
        return True

    def grow(self, tree: Tree, busy: bool, step: int) -> Sequence[int]:
        if not (self.pace.tokens_per_s and self.costs.draft(1)):
            return super().grow(tree, busy, step)[:FIRST_ROWS]
        if step == 0:
            self._time_left = self.costs.target(len(tree.submitted)) if busy else 0.0
        best = tree.frontier(self.rows_draft)
        rows = self._rows_of_step(tree, best, 1.0 if busy else self.early)
        self._time_left -= self.costs.draft(rows)
        return best[:rows]

    def submit(self, tree: Tree) -> Sequence[int]:
        pace = self.pace.tokens_per_s
        rows = super().submit(tree)[: None if pace else FIRST_ROWS]
        tokens = tree.estimate[rows].cumsum()
        best = int((tokens - pace * self.costs.target.up_to(len(rows))).argmax())
        self._expected = float(tokens[best])
        return rows[: 1 + best]

    def learn(self, outcome: Outcome) -> None:
        """Take in what a round cost, and its pace."""
        self.costs.learn(outcome.spans)
        self.pace.learn(self._expected, outcome.seconds)

    def _rows_of_step(self, tree: Tree, best: Sequence[int], share: float) -> int:
        """How many of the likeliest nodes the next step should expand, 0 for no step."""
        chances = tree.estimate[best]
        chances = chances[chances >= FILLER * chances.max(initial=0)]
        if not len(chances):
            return 0
        seconds = self.costs.draft.up_to(len(chances))
        waiting = np.maximum(0, seconds - max(0.0, self._time_left))
        rates = (share * chances.cumsum() - self.pace.tokens_per_s * waiting) / seconds
        rows = int(rates.argmax())
        return 1 + rows if rates[rows] > 0 else 0


class InSeries(CostAware):
    """Grows only while the target is idle: nothing slows the target down."""

    early = 1.0

    def grow(self, tree: Tree, busy: bool, step: int) -> Sequence[int]:
        return () if busy else super().grow(tree, busy, step)


class Alone(CostAware):
    """Grows nothing: plain decoding, once what had grown before is used up."""

    longest_stay = 64  # to be here by mistake costs more than a trial

    def promises(self, pace: float) -> bool:
        return pace * self.costs.target(1) < 1

    def grow(self, tree: Tree, busy: bool, step: int) -> Sequence[int]:
        return ()


class Choice:
    """Which way of working is in use, by number, and for how long."""

    def __init__(self) -> None:
        self.current = self.settled = self.trials = 0
        self.stay = self.rounds_left = FIRST_STAY


class Auto(Policy):
    """Cost-aware best-first growth, both models at once or by turns, or plain decoding: whichever
    is fastest on this pair, this machine and this text.

    It works in one of these ways and, at intervals, tries another for a few rounds. As long as that
    teaches nothing new the intervals double; when another way is faster, it stays there and they
    start small again. So drafting ends where it loses, on a saturated machine or with guesses that
    are never right, and comes back. A request's first round has the prefill in it and a way's first
    round the tree that another way grew: neither teaches anything.

    rows_draft, rows_target: rows of a forward, at most. fan: children of a node, at most.
    """

    name = "auto"
    overlaps = True

    def __init__(self, rows_draft: int = 16, rows_target: int = 64, fan: int = 16) -> None:
        self.max_fan = fan
        self._limits = rows_draft, rows_target, fan
        costs = Costs()
        self.ways = [way(costs, *self._limits) for way in (CostAware, InSeries, Alone)]
        self._choice = Choice()
        self._way, self._way_before = 0, -1  # in this round, and in this request's last one

    @property
    def current(self) -> CostAware:
        """The way that it works in."""
        return self.ways[self._choice.current]

    @property
    def settled(self) -> CostAware:
        """The fastest way, as far as is known."""
        return self.ways[self._choice.settled]

    def begin(self) -> Self:
        policy = super().begin()
        policy.ways = [way.begin() for way in self.ways]
        return policy

    def fresh(self) -> Self:
        return type(self)(*self._limits)

    def grow(self, tree: Tree, busy: bool, step: int) -> Sequence[int]:
        if step == 0 and not busy:
            self._way = self._choice.current
        return self.ways[self._way].grow(tree, busy, step)

    def fan(self, tree: Tree, nodes: Sequence[int]) -> Sequence[int]:
        return self.ways[self._way].fan(tree, nodes)

    def submit(self, tree: Tree) -> Sequence[int]:
        return self.ways[self._way].submit(tree)

    def observe(self, outcome: Outcome) -> None:
        way = self.ways[self._way]
        way.observe(outcome)
        if self._way == self._way_before:
            way.learn(outcome)
        self._way_before = self._way
        self._choice.rounds_left -= 1
        if self._choice.rounds_left <= 0:
            if self.current is self.settled:
                self._try_another()
            else:
                self._settle()

    def _try_another(self) -> None:
        choice, pace = self._choice, self.settled.pace.tokens_per_s
        others = [
            number
            for number, way in enumerate(self.ways)
            if way is not self.settled and way.promises(pace)
        ]
        choice.current = others[choice.trials % len(others)]
        choice.trials += 1
        choice.rounds_left = TRIAL
        self.current.pace.start_from(pace)

    def _settle(self) -> None:
        """Stay with the faster of what was tried and what was done before."""
        choice = self._choice
        if self.current.pace.tokens_per_s > self.settled.pace.tokens_per_s:
            choice.settled, choice.stay = choice.current, FIRST_STAY
        else:
            choice.current = choice.settled
            choice.stay = min(2 * choice.stay, self.settled.longest_stay)
        choice.rounds_left = choice.stay
