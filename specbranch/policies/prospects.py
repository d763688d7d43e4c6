"""What drafting could bring, as far as can be told without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from specbranch.costs.learnt import ADAPTATION, RowTimes, SharedCosts
from specbranch.trace import Label, Span, merged, shared

if TYPE_CHECKING:
    from specbranch._C import Tree
    from specbranch.policies.base import Outcome

LONGEST_CHAIN = 8  # guesses of a round that are thought of


class Prospects:
    """What earlier rounds tell of requests that are decoded plainly, whatever the way of working.

    Before a draft guesses for a request it reads what is committed. That takes time from all
    requests, and pays in the tokens which that one wants.

    costs: of models that work at the same time.
    wanted: tokens that a request wants at most, of late; 0 before there was one.
    held: share of rounds whose first guess was right, of late; 1 before anything is known.
    """

    def __init__(self, costs: SharedCosts) -> None:
        self.costs = costs
        self._reading = self._covered = 0.0  # seconds; those beside the target's reading
        self.wanted = 0.0
        self.held = 1.0
        self._latest: Sequence[Span] = ()

    @property
    def reading(self) -> float:
        """Seconds that the draft's reading of a request takes from all, of late."""
        return self._reading - (1 - self.costs.slowdown) * self._covered

    @property
    def reading_a_token(self) -> float:
        """Seconds of reading for each token of a request that is drafted."""
        return self.reading / max(1.0, self.wanted)

    def meet(self, tree: Tree) -> None:
        """Look at a request in its first round."""
        weight = ADAPTATION if self.wanted else 1.0
        self.wanted += weight * (tree.remaining - self.wanted)

    def learn(self, outcome: Outcome) -> None:
        """Take in what a request came to in a round."""
        if outcome.submitted:
            held = float(outcome.accepted > 0)
            self.held += ADAPTATION * (held - self.held) / outcome.requests
        if outcome.spans is not self._latest:
            self._latest = outcome.spans
            self._learn_reading(outcome.spans)

    def seconds_a_token(
        self, draft: RowTimes, target: RowTimes, requests: int, hidden: float
    ) -> float:
        """The least that a token of so many requests could take with the best of chains, as often
        right as halfway between what is known of guesses and always.

        hidden: share of the draft's time that passes beside the target's and costs nothing.
        """
        right = (1 + self.held) / 2
        expected, last, best = 1.0, 1.0, float("inf")
        for length in range(1, LONGEST_CHAIN + 1):
            last *= right
            expected += last
            drafting = length * draft(requests)
            checking = target(requests * (1 + length))
            seconds = checking + max(drafting - hidden * checking, (1 - hidden) * drafting)
            best = min(best, seconds / expected)
        return best / requests + self.reading_a_token

    def _learn_reading(self, spans: Sequence[Span]) -> None:
        reading = [span for span in spans if span.label == Label.PREFILL]
        beside = merged((span.start, span.end) for span in reading if span.lane == "target")
        for span in reading:
            if span.lane == "draft":
                covered = shared([(span.start, span.end)], beside)
                weight = ADAPTATION if self._reading else 1.0
                self._reading += weight * (span.end - span.start - self._reading)
                self._covered += weight * (covered - self._covered)
