"""Best-first growth that knows what rows cost, and when not to draft at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from specbranch.costs.learnt import Costs, SharedCosts
from specbranch.policies.base import Outcome, Policy
from specbranch.policies.best_first import BestFirst
from specbranch.trace import Span

if TYPE_CHECKING:
    from typing import Self

    from specbranch._C import Tree

Floats = NDArray[np.float64]

MEMORY = 0.9  # share of what is known about the pace that a round leaves
# Share of the likeliest node's chance below which a node only fills the draft's block.
FILLER = 0.01
TRIAL = 4  # rounds for which another way of working is tried
FIRST_TRIAL = 8  # rounds before the first one, which tells what drafting beside the target costs
FIRST_STAY = 32  # rounds between two trials, to begin with: a trial costs about one
LONGEST_STAY = 512
LONGER = 4  # times as long, after a trial that brought nothing
ALONE = 1  # its place among the ways
CERTAIN = 0.97  # of plain decoding's pace
PAYS = 1.15  # times plain decoding's pace: drafting is tried with each request
WORTH = 1.1  # contention from which on working by turns is tried


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
    it submits the rows that bring most a second. A request gets at most twice the rows that any
    forward had before.

    The rows of several requests compete for one forward: the likeliest are submitted, whoever's
    they are. As requests become many, no row is worth what it adds.

    costs: what forwards cost by rows, learnt from the lanes' spans; perhaps shared with others.
    rows_draft, rows_target: rows at most. fan: children of a node, at most.
    """

    beside = True  # both models work at once

    def __init__(self, costs: Costs, rows_draft: int, rows_target: int, fan: int) -> None:
        super().__init__(fan=fan)
        self.rows_draft = min(self.rows_draft, rows_draft)
        self.rows_target = min(self.rows_target, rows_target)
        self._limits = rows_draft, rows_target
        self.costs = costs
        self.pace = Pace()
        self.requests = 1  # in the latest round
        self.shares = Shares()
        self._expected = 1.0
        self._time_left = 0.0  # of the target's forward

    def promises(self, settled: CostAware) -> bool:
        """Whether it could be faster than this way, as far as is known without trying."""
        return True

    def grow(self, tree: Tree, busy: bool, step: int) -> Sequence[int]:
        if not (self.costs.draft(1) and (busy or self.pace.tokens_per_s)):
            return super().grow(tree, busy, step)
        if step == 0:
            self._time_left = self.costs.target(self.shares.rows) if busy else 0.0
        most = min(self._limits[0], max(self.rows_draft, 2 * self.costs.draft.most))
        best = tree.frontier(most)
        rows = self._rows_of_step(tree.estimates(best), 1.0 if busy else self.early)
        self._time_left -= self.costs.draft(rows * self.requests)
        return best[:rows]

    def survey(self, trees: Sequence[Tree]) -> None:
        """Share one forward's rows out among all requests."""
        most = min(self._limits[1], max(self.rows_target, 2 * self.costs.target.most))
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
        taken = self._most_worth(expected, seconds[len(trees) :])
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

    def _rows_of_step(self, chances: Sequence[float], share: float) -> int:
        """How many of the likeliest nodes the next step should expand, 0 for no step; only that
        share of their worth counts."""
        pace, time_left = self.pace.tokens_per_s, max(0.0, self._time_left)
        # A step is for all requests: as if the others wanted as many rows, of as much use.
        seconds = self.costs.draft.up_to(self.requests * len(chances))
        added, best, count = 0.0, 0.0, 0
        for row, chance in enumerate(chances, start=1):
            if chance < FILLER * chances[0]:
                break
            added += self.requests * share * chance
            step = seconds[self.requests * row]
            waiting = max(0.0, step - time_left)
            rate = (added - pace * (waiting + self.costs.slowdown * (step - waiting))) / step
            if rate > best:
                best, count = rate, row
        return count


class InSeries(CostAware):
    """Grows only while the target is idle: nothing slows the target down."""

    early = 1.0
    beside = False

    def promises(self, settled: CostAware) -> bool:
        return not settled.beside or settled.costs.contention > WORTH

    def grow(self, tree: Tree, busy: bool, step: int) -> Sequence[int]:
        return () if busy else super().grow(tree, busy, step)


class Alone(CostAware):
    """Grows nothing: plain decoding, once what had grown before is used up."""

    drafts = False
    beside = False

    def promises(self, settled: CostAware) -> bool:
        costs = self.costs if self.costs.target.most else settled.costs
        seconds = costs.target(settled.requests) / costs.contention
        return settled.pace.tokens_per_s * seconds < settled.requests

    def outruns(self, settled: CostAware) -> bool:
        """Whether it is faster for certain: its pace depends on no guess, so it need not be tried
        again to be known."""
        seconds = self.costs.target(settled.requests)
        return 0 < seconds * settled.pace.tokens_per_s < CERTAIN * settled.requests

    def grow(self, tree: Tree, busy: bool, step: int) -> Sequence[int]:
        return ()

    def start_from(self, settled: CostAware) -> None:
        """Begin a trial. Nothing of what drafting costs tells what this does."""
        self.pace.start_from(0.0)


class Choice:
    """Which way of working is in use, by number, and for how long.

    anyway: whether the next trial is of any way, since none promised anything: what they cost may
        have changed.
    pays: whether drafting was much faster than plain decoding on some text.
    """

    def __init__(self) -> None:
        self.anyway = self.pays = False
        self.current = self.settled = self.trials = 0
        self.stay, self.rounds_left = FIRST_STAY // LONGER, FIRST_TRIAL
        self.latest: Sequence[Span] = ()  # of the latest round


class Auto(Policy):
    """Cost-aware best-first growth, both models at once or by turns, or plain decoding: whichever
    is fastest on this pair, this machine and this text.

    It starts as best-first growth at its defaults. It works in one of these ways and, at intervals,
    tries another that could be faster for a few rounds. As long as that teaches nothing new the
    intervals grow; when another way is faster, it stays there and they start small again. So
    drafting ends where it loses, on a saturated machine or with guesses that are never right, and
    comes back: with the next request, if it was much faster on some text before. A request's first
    round has the prefill in it and a way's first round the tree that another way grew: neither
    teaches its pace. The first round without a draft beside the target tells how much that slows it
    down, and ends a trial that then promises nothing. What plain decoding's forwards take tells its
    pace without further trials.

    Requests of one engine work in the same way. rows_draft, rows_target: rows of one of them in a
    forward, at most. fan: children of a node, at most.
    """

    name = "auto"
    overlaps = True

    def __init__(self, rows_draft: int = 16, rows_target: int = 64, fan: int = 16) -> None:
        self.max_fan = fan
        self._limits = rows_draft, rows_target, fan
        alone = Costs()
        self.ways = [
            CostAware(SharedCosts(alone), *self._limits),
            Alone(alone, *self._limits),
            InSeries(alone, *self._limits),
        ]
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

    @property
    def drafts(self) -> bool:  # type: ignore[override]
        return self.current.drafts

    def begin(self) -> Self:
        policy = super().begin()
        policy.ways = [way.begin() for way in self.ways]
        if self._choice.pays and policy.current is policy.settled is policy.ways[ALONE]:
            policy._try_another()
        return policy

    def fresh(self) -> Self:
        return type(self)(*self._limits)

    def report(self) -> dict[str, float | str]:
        """way: how it works now. tokens_per_s: those that it expects of all requests, of late.
        contention: how many times as long a target forward takes beside drafting as alone."""
        return {
            "way": type(self.current).__name__,
            "tokens_per_s": self.settled.pace.tokens_per_s,
            "contention": self.settled.costs.contention,
        }

    def grow(self, tree: Tree, busy: bool, step: int) -> Sequence[int]:
        if step == 0 and not busy:
            self._way = self._choice.current
        return self.ways[self._way].grow(tree, busy, step)

    def fan(self, tree: Tree, nodes: Sequence[int]) -> Sequence[int]:
        return self.ways[self._way].fan(tree, nodes)

    def survey(self, trees: Sequence[Tree]) -> None:
        self.ways[self._way].survey(trees)

    def submit(self, tree: Tree) -> Sequence[int]:
        return self.ways[self._way].submit(tree)

    def observe(self, outcome: Outcome) -> None:
        way = self.ways[self._way]
        way.observe(outcome)
        if self._way == self._way_before:
            way.learn(outcome)
        self._way_before = self._way
        if outcome.requests > 1 and outcome.spans is self._choice.latest:
            return  # another request has told of this round
        self._choice.latest = outcome.spans
        self._choice.rounds_left -= 1
        over = self._choice.rounds_left <= 0
        if self._is_outrun():
            self._settle_on(ALONE)
        elif self.current is not self.settled:
            if not self.current.promises(self.settled):
                self._stay_longer()
            elif over:
                self._settle()
        elif over:
            self._try_another()

    def _is_outrun(self) -> bool:
        alone = self.ways[ALONE]
        assert isinstance(alone, Alone)
        return self.current is self.settled is not alone and alone.outruns(self.settled)

    def _try_another(self) -> None:
        choice, settled = self._choice, self.settled
        others = [
            number
            for number, way in enumerate(self.ways)
            if way is not settled and (choice.anyway or way.promises(settled))
        ]
        choice.anyway = False
        if not others:
            choice.anyway = True
            self._stay_longer()
            return
        choice.current = others[choice.trials % len(others)]
        choice.trials += 1
        choice.rounds_left = TRIAL
        self.current.start_from(settled)

    def _settle(self) -> None:
        """Stay with the faster of what was tried and what was done before."""
        tried, before = self.current.pace.tokens_per_s, self.settled.pace.tokens_per_s
        if before > PAYS * tried and not self.current.drafts:
            self._choice.pays = True
        if tried > PAYS * before and not self.settled.drafts:
            self._choice.pays = True
        if tried > before:
            self._settle_on(self._choice.current)
        else:
            self._stay_longer()

    def _settle_on(self, way: int) -> None:
        choice = self._choice
        choice.current = choice.settled = way
        choice.stay = choice.rounds_left = FIRST_STAY

    def _stay_longer(self) -> None:
        choice = self._choice
        choice.current = choice.settled
        choice.stay = min(LONGER * choice.stay, LONGEST_STAY)
        choice.rounds_left = choice.stay
