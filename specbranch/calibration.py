"""How often guesses turn out right: the draft's own estimates, corrected by what was verified."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Sequence

from specbranch.tree import Node

Prior = Callable[[Sequence[float]], list[float]]

RANKS = 4  # guesses of rank RANKS - 1 and beyond share their buckets
EDGES = (0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97)  # between buckets of prior chances
STRENGTH = 3.0  # guesses that the prior is worth in each bucket


def ranked(estimates: Sequence[float]) -> list[float]:
    """Prior chances of a node's ranked guesses: the draft's estimates as they are."""
    return [min(estimate, 1.0) for estimate in estimates]  # float32 sums can exceed 1


def drawn(estimates: Sequence[float]) -> list[float]:
    """Prior chances of guesses that were drawn with probabilities `estimates`, one after another.

    A draw is tested only if those before it failed, and a draw of small probability is far more
    often right than that says: of a token whose q is near zero the target's p is mostly larger.
    """
    chances, untested = [], 1.0
    for estimate in estimates:
        chance = untested * (0.3 + 0.7 * min(estimate, 1.0))
        untested -= chance
        chances.append(chance)
    return chances


class Calibration:
    """The chance that a guess is right, by its rank and its prior chance.

    Of first guesses each bucket knows how many were tested and how many held: the chance is the
    posterior mean of that rate, under a Beta prior that is worth `strength` guesses and has the
    guess's own prior chance as its mean.

    Further guesses share what the first one leaves. Their prior chances reach from tenths to almost
    nothing and are scaled by (right + s) / (expected + s): right counts those that held, expected
    sums the chances that the prior gave them. This is the posterior mean of a Poisson rate under a
    Gamma prior of mean 1.

    Both are defined from the start, and keep the order of guesses within a bucket.
    """

    def __init__(self, prior: Prior = ranked, strength: float = STRENGTH) -> None:
        self.prior = prior
        buckets = len(EDGES) + 1
        self._strength = strength
        self._tested = [strength] * buckets
        self._held = [0.0] * buckets
        self._right = [[strength] * buckets for _ in range(1, RANKS)]
        self._expected = [[strength] * buckets for _ in range(1, RANKS)]

    def chances(self, priors: Sequence[float]) -> list[float]:
        """Chances of a node's guesses, best (or first drawn) first, from their prior chances.

        At most one guess is right, so they sum to 1 at most, and each is at most 1.
        """
        if not priors:
            return []
        first, *others = priors
        bucket = bisect(EDGES, first)
        chance = (self._held[bucket] + self._strength * first) / self._tested[bucket]
        scaled = [prior * self._scale(rank, prior) for rank, prior in enumerate(others)]
        total, left = sum(scaled), 1 - chance
        return [chance, *(each * left / total if total > left else each for each in scaled)]

    def learn(self, path: Sequence[Node], winner: Node | None) -> None:
        """Learn from a verified walk: the nodes it passed, the root first, and the guess that
        ended it, if any. Every guess at every node of the path was tested."""
        for node, right in zip(path, [*path[1:], winner], strict=True):
            for child in node.children[:1]:
                bucket = bisect(EDGES, child.prior)
                self._tested[bucket] += 1
                self._held[bucket] += child is right
            for rank, child in enumerate(node.children[1:]):
                row, bucket = _place(rank, child.prior)
                self._expected[row][bucket] += child.prior
                self._right[row][bucket] += child is right

    def _scale(self, rank: int, prior: float) -> float:
        row, bucket = _place(rank, prior)
        return self._right[row][bucket] / self._expected[row][bucket]


def _place(rank: int, prior: float) -> tuple[int, int]:
    """Row and bucket of a guess after the first, `rank` places behind the second."""
    return min(rank, RANKS - 2), bisect(EDGES, prior)
