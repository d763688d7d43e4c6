"""Synthetic acceptance: a draft of given quality without weights, to study schedules with.

The text is zeros. At a place on it the guess of rank r is right, that is token 0, with probability
p_r, all other guesses are wrong; at a place beyond a wrong guess nothing is right any more, but the
draft is as sure as ever. The laws are a function of the seed and the place alone, so all policies
meet the same draft.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import pairwise

from specbranch.replay.laws import RANKS, Law, Place
from specbranch.replay.recording import Recording
from specbranch.sampling import SamplingParams

TAIL = 0.85


def rank_rates(agreement: float, ranks: int = RANKS) -> list[float]:
    """Chance of each rank to be right, for a draft whose first guess is right at rate `agreement`.

    The first k are all wrong with probability (1 - agreement) k^-0.85, which is within 0.005 of
    what a 0.5B draft of a 1.5B target showed at temperature 1: 0.747, 0.923 and 0.955 of the
    tokens among the first 1, 4 and 8 guesses.
    """
    wrong = [1.0] + [(1 - agreement) * k**-TAIL for k in range(1, ranks + 1)]
    return [before - after for before, after in pairwise(wrong)]


def synthetic_recording(tokens: int) -> Recording:
    """The text of a synthetic request."""
    return Recording([0], [0] * tokens, SamplingParams(max_new_tokens=tokens), frozenset())


class SyntheticLaws:
    """A draft that is right at given rates.

    rates: chance of each rank to be right, best first, RANKS at most; they add up to at most 1.
    concentration: None is a draft that is equally sure everywhere. Otherwise the first rank's
        chance varies from place to place, as a real draft's does, by a beta law of mean rates[0]
        and this sum of parameters; the draft knows it (it is calibrated), and the other ranks
        share what is left as they do on average.
    seed: of all draws.

    Raises ValueError for rates that are no such chances and for a concentration that is not
    positive.
    """

    def __init__(
        self, rates: Sequence[float], *, concentration: float | None = None, seed: int = 0
    ) -> None:
        if not 0 < len(rates) <= RANKS or min(rates) < 0 or not 0 < rates[0] <= sum(rates) <= 1:
            raise ValueError(
                f"rates: expected 1 to {RANKS} chances that add up to at most 1, got {rates}"
            )
        if concentration is not None and concentration <= 0:
            raise ValueError(f"concentration: expected a positive number, got {concentration}")
        self._rates = list(rates)
        self._concentration = concentration
        self._seed = seed
        self._known: dict[Place, Law] = {}

    def laws(self, places: Sequence[Place]) -> list[Law]:
        return [self._known.get(place) or self._draw(place) for place in places]

    def _draw(self, place: Place) -> Law:
        noise = random.Random(hash((self._seed, *place)))
        chances = self._chances(noise)
        ids = list(range(1, len(chances) + 1))
        right = _rank_drawn(chances, noise.random())
        if not place.beyond and right is not None:
            ids[right] = 0
        law = Law(ids, chances, chances[0], _entropy(chances))
        self._known[place] = law
        return law

    def _chances(self, noise: random.Random) -> list[float]:
        first = self._rates[0]
        if self._concentration is None or first == 1:
            return self._rates
        a, b = first * self._concentration, (1 - first) * self._concentration
        drawn = noise.betavariate(a, b)
        share = (1 - drawn) / (1 - first)
        return [drawn] + [rate * share for rate in self._rates[1:]]


def _rank_drawn(chances: Sequence[float], uniform: float) -> int | None:
    """The rank that is right, None if no guess is."""
    for rank, chance in enumerate(chances):
        if uniform < chance:
            return rank
        uniform -= chance
    return None


def _entropy(chances: Sequence[float]) -> float:
    """In nats, with what no guess has as one more outcome."""
    outcomes = [*chances, 1 - sum(chances)]
    return -sum(p * math.log(p) for p in outcomes if p > 0)
