"""The fastest way to draft, or none: chosen while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from specbranch.costs.learnt import Costs, SharedCosts
from specbranch.policies.base import Outcome, Policy
from specbranch.policies.cost_aware import Alone, CostAware, InSeries
from specbranch.policies.prospects import Prospects
from specbranch.trace import Span

if TYPE_CHECKING:
    from typing import Self

    from specbranch._C import Tree

TRIAL = 4  # rounds for which another way of working is tried
FIRST_TRIAL = 8  # rounds of requests before the first, which tells what drafting costs the target
FIRST_STAY = 32  # rounds between two trials, to begin with: a trial costs about one
LONGEST_STAY = 512
LONGER = 4  # times as long, after a trial that brought nothing
PAYS = 1.15  # times plain decoding's pace: drafting is tried with each request


class Ways(NamedTuple):
    """Ways of working."""

    beside: CostAware
    alone: Alone
    in_series: InSeries


ALONE = Ways._fields.index("alone")


class Choice:
    """Which way of working is in use, by number, and for how long.

    requests: in the latest round.
    anyway: whether the next trial is of any way, since none promised anything: what they cost may
        have changed.
    pays: whether drafting was much faster than plain decoding on some text.
    """

    def __init__(self) -> None:
        self.anyway = self.pays = False
        self.current = self.settled = self.trials = 0
        self.requests = 1
        self.stay = FIRST_STAY // LONGER
        self.rounds_left: float = FIRST_TRIAL
        self.latest: Sequence[Span] = ()  # of the latest round


class Auto(Policy):
    """Cost-aware best-first growth, both models at once or by turns, or plain decoding: whichever
    is fastest on this pair, this machine and this text.

    It starts as best-first growth at its defaults. It works in one of these ways and, at intervals,
    tries another that could be faster for a few rounds. As long as that teaches nothing new the
    intervals grow; when another way is faster, it stays there and they start small again. So
    drafting ends where it loses, on a saturated machine or with guesses that are never right, and
    comes back: with the next request that is alone, if it was much faster on some text before. A
    request's first round has the prefill in it and a way's first round the tree that another way
    grew: neither teaches its pace. The first round without a draft beside the target tells how much
    that slows it down, and ends a trial that then promises nothing. What plain decoding's forwards
    take tells its pace without further trials. Out of plain decoding drafting is tried where the
    best of chains would pay for the draft's reading of what is committed, and the more rarely the
    more there is.

    Requests of one engine work in the same way. rows_draft, rows_target: rows of one of them in a
    forward, at most. fan: children of a node, at most.
    """

    name = "auto"
    overlaps = True

    def __init__(self, rows_draft: int = 16, rows_target: int = 64, fan: int = 16) -> None:
        self.max_fan = fan
        self._limits = rows_draft, rows_target, fan
        alone = Costs()
        beside = SharedCosts(alone)
        prospects = Prospects(beside)
        self.ways = Ways(
            CostAware(beside, prospects, *self._limits),
            Alone(alone, prospects, *self._limits),
            InSeries(alone, prospects, *self._limits),
        )
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
        beside, alone, in_series = self.ways
        policy.ways = Ways(beside.begin(), alone.begin(), in_series.begin())
        plainly = policy.current is policy.settled is policy.ways.alone
        if plainly and self._choice.pays and self._choice.requests == 1:
            policy._try_another()
        return policy

    def fresh(self) -> Self:
        return type(self)(*self._limits)

    def report(self) -> dict[str, float | str]:
        """way: how it works now. tokens_per_s: those that it expects of all requests, of late.
        contention: how many times as long a target forward takes beside drafting as alone."""
        return {
            "way": type(self.current).__name__,
            "tokens_per_s": self.settled.tokens_per_s,
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
        if self._way_before < 0:
            self.current.prospects.meet(tree)
        return self.ways[self._way].submit(tree)

    def observe(self, outcome: Outcome) -> None:
        way = self.ways[self._way]
        way.observe(outcome)
        if self._way == self._way_before:
            way.learn(outcome)
        self._way_before = self._way
        if outcome.requests > 1 and outcome.spans is self._choice.latest:
            return  # another request has told of this round
        self._choice.latest, self._choice.requests = outcome.spans, outcome.requests
        self._choice.rounds_left -= self._counts(outcome.requests)
        over = self._choice.rounds_left <= 0 and self.current.pace.tokens_per_s > 0
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
        alone = self.ways.alone
        return self.current is self.settled is not alone and alone.outruns(self.settled)

    def _try_another(self) -> None:
        choice, settled = self._choice, self.settled
        others = [
            number
            for number, way in enumerate(self.ways)
            if way is not settled and (choice.anyway or way.promises(settled))
        ]
        choice.anyway = not others
        if not others:
            if not settled.drafts:
                choice.stay = LONGEST_STAY
            self._stay_longer()
            return
        choice.current = others[choice.trials % len(others)]
        choice.trials += 1
        choice.rounds_left = TRIAL
        self.current.start_from(settled)

    def _settle(self) -> None:
        """Stay with the faster of what was tried and what was done before."""
        tried, before = self.current.tokens_per_s, self.settled.tokens_per_s
        if not self.current.drafts:
            self._choice.pays |= before > PAYS * tried
        elif not self.settled.drafts:
            self._choice.pays |= tried > PAYS * before
        if tried > before:
            self._settle_on(self._choice.current)
        else:
            self._stay_longer()

    def _counts(self, requests: int) -> float:
        """How many rounds this one counts for, on the way to the next decision. A trial costs about
        one round and, where nothing was drafted, all that the draft reads for it."""
        settled = self.settled
        if not self._choice.trials:
            return requests
        if self.current is not settled or settled.drafts:
            return 1
        return 1 / (1 + settled.tokens_per_s * settled.prospects.reading)

    def _settle_on(self, way: int) -> None:
        choice = self._choice
        choice.current = choice.settled = way
        choice.stay = choice.rounds_left = FIRST_STAY

    def _stay_longer(self) -> None:
        choice = self._choice
        choice.current = choice.settled
        choice.stay = min(LONGER * choice.stay, LONGEST_STAY)
        choice.rounds_left = choice.stay
