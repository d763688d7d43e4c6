"""Best-first growth that knows what rows cost, and when not to draft at all."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from specbranch.costs.learnt import Costs
from specbranch.policies.base import Outcome, Policy
from specbranch.policies.best_first import BestFirst
from specbranch.tree import Node, SpeculationTree

FIRST_ROWS = 8  # of a forward, as long as nothing is known
MEMORY = 0.9  # share of what is known about the pace that a round leaves
# Share of the likeliest node's chance below which a node only fills the draft's block.
FILLER = 0.01
TRIAL = 4  # rounds for which another way of working is tried
FIRST_STAY = 16  # rounds between two trials, to begin with


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
        self._tokens = self._seconds = 0.0

    def begin(self) -> None:
        super().begin()
        self._expected = 1.0

    def try_against(self, pace: float) -> None:
        """Forget the pace of former times; `pace` is what others reach and counts as one token."""
        self._tokens, self._seconds = (1.0, 1 / pace) if pace else (0.0, 0.0)

    @property
    def pace(self) -> float:
        """Expected tokens a second, of late; 0 before anything is known.

        Tokens that were expected, not those that came: far fewer rounds tell as much.
        """
        return self._tokens / self._seconds if self._seconds else 0.0

    def promises(self, pace: float) -> bool:
        """Whether it could be faster than `pace`, as far as is known without trying."""
        return True

    def grow(self, tree: SpeculationTree, busy: bool, step: int) -> Sequence[Node]:
        if not (self.pace and self.costs.draft(1)):
            return super().grow(tree, busy, step)[:FIRST_ROWS]
        if step == 0:
            self._time_left = self.costs.target(len(tree.submitted)) if busy else 0.0
        best = self._candidates(tree)
        rows = self._rows_of_step(best, 1.0 if busy else self.early)
        self._time_left -= self.costs.draft(rows)
        return best[:rows]

    def submit(self, tree: SpeculationTree) -> Sequence[Node]:
        rows = super().submit(tree)[: None if self.pace else FIRST_ROWS]
        tokens = list(accumulate(node.estimate for node in rows))
        worth = [
            expected - self.pace * self.costs.target(count)
            for count, expected in enumerate(tokens, start=1)
        ]
        count = 1 + worth.index(max(worth))
        self._expected = tokens[count - 1]
        return rows[:count]

    def learn(self, outcome: Outcome) -> None:
        """Take in what a round cost, and its pace."""
        self.costs.learn(outcome.spans)
        self._tokens = MEMORY * self._tokens + self._expected
        self._seconds = MEMORY * self._seconds + outcome.seconds

    def _rows_of_step(self, best: Sequence[Node], share: float) -> int:
        """How many of the likeliest nodes the next step should expand, 0 for no step."""
        best_rate, best_rows = 0.0, 0
        chances = [node.estimate for node in best if node.estimate >= FILLER * best[0].estimate]
        for rows, tokens in enumerate(accumulate(chances), start=1):
            seconds = self.costs.draft(rows)
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

    longest_stay = 64  # to be here by mistake costs more than a trial

    def promises(self, pace: float) -> bool:
        return pace * self.costs.target(1) < 1

    def grow(self, tree: SpeculationTree, busy: bool, step: int) -> Sequence[Node]:
        return ()


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
        self.forget()

    def forget(self) -> None:
        costs = Costs()
        self.ways = [way(costs, *self._limits) for way in (CostAware, InSeries, Alone)]
        self.current = self.settled = self.ways[0]
        self._trials = 0
        self._stay = self._rounds_left = FIRST_STAY

    def begin(self) -> None:
        for way in self.ways:
            way.begin()
        self._fresh = True

    def grow(self, tree: SpeculationTree, busy: bool, step: int) -> Sequence[Node]:
        return self.current.grow(tree, busy, step)

    def fan(self, node: Node) -> int:
        return self.current.fan(node)

    def submit(self, tree: SpeculationTree) -> Sequence[Node]:
        return self.current.submit(tree)

    def observe(self, outcome: Outcome) -> None:
        self.current.observe(outcome)
        if not self._fresh:
            self.current.learn(outcome)
        self._fresh = False
        self._rounds_left -= 1
        if self._rounds_left > 0:
            return
        self._fresh = True
        if self.current is self.settled:
            self._try_another()
        else:
            self._settle()

    def _try_another(self) -> None:
        pace = self.settled.pace
        others = [way for way in self.ways if way is not self.settled and way.promises(pace)]
        self.current = others[self._trials % len(others)]
        self.current.try_against(pace)
        self._trials += 1
        self._rounds_left = TRIAL

    def _settle(self) -> None:
        """Stay with the faster of what was tried and what was done before."""
        if self.current.pace > self.settled.pace:
            self.settled, self._stay = self.current, FIRST_STAY
        else:
            self.current, self._stay = self.settled, min(2 * self._stay, self.settled.longest_stay)
        self._rounds_left = self._stay
