"""How often guesses turn out right: the draft's own estimates, corrected by what was verified."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Sequence

from specbranch.tree import Node

Prior = Callable[[Sequence[float]], list[float]]

RANKS = 4  # guesses of rank RANKS - 1 and beyond share their buckets
EDGES = (0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97)  # between buckets of prior chances
STRENGTH = 3.0  # right guesses that the prior is worth in each bucket


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

    In each bucket the prior's chances are scaled by (right + s) / (expected + s): right counts the
    tested guesses that held, expected sums the chances that the prior gave them, and s is the
    prior's strength. This is the posterior mean of a Poisson rate under a Gamma prior of mean 1; it
    is defined from the start, and keeps the order of guesses within a bucket.
    """

    def __init__(self, prior: Prior = ranked, strength: float = STRENGTH) -> None:
        self.prior = prior
        self._right = [[strength] * (len(EDGES) + 1) for _ in range(RANKS)]
        self._expected = [[strength] * (len(EDGES) + 1) for _ in range(RANKS)]

    def chances(self, priors: Sequence[float]) -> list[float]:
        """Chances of a node's guesses, best (or first drawn) first, from their prior chances.

        At most one guess is right, so they sum to 1 at most, and each is at most 1.
        """
        chances = []
        for rank, prior in enumerate(priors):
            row, bucket = min(rank, RANKS - 1), bisect(EDGES, prior)
            chances.append(prior * (self._right[row][bucket] / self._expected[row][bucket]))
        total = sum(chances)
        return [chance / total for chance in chances] if total > 1 else chances

    def learn(self, path: Sequence[Node], winner: Node | None) -> None:
        """Learn from a verified walk: the nodes it passed, the root first, and the guess that
        ended it, if any. Every guess at every node of the path was tested."""
        for node, right in zip(path, [*path[1:], winner], strict=True):
            for rank, child in enumerate(node.children):
                row, bucket = min(rank, RANKS - 1), bisect(EDGES, child.prior)
                self._expected[row][bucket] += child.prior
                self._right[row][bucket] += child is right
