"""What followed the text's own suffix before, and how often such a continuation is right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

RECENT = 16  # occurrences of a suffix that are looked at, the latest ones
RANKS = 3  # candidates of rank RANKS - 1 and beyond are judged together
MOST = 0.99  # chance of a candidate, whatever was learnt


class Candidate(NamedTuple):
    """A token that followed a suffix before."""

    token: int
    length: int  # of the suffix
    share: float  # of what followed it, the candidates before this one left out


class Suffixes:
    """A text that grows by its end, and what followed its n-grams.

    A token takes about 200 bytes for each length.

    max_n: tokens of a suffix, at most.
    """

    def __init__(self, max_n: int) -> None:
        self._max_n = max_n
        self._size = 0
        self._end: list[int] = []
        self._followers: dict[tuple[int, ...], list[int]] = {}

    def __len__(self) -> int:
        return self._size

    def append(self, token: int) -> None:
        """Let the text go on."""
        for start in range(len(self._end)):
            self._followers.setdefault(tuple(self._end[start:]), []).append(token)
        self._end = [*self._end, token][-self._max_n :]
        self._size += 1

    def candidates(self, path: Sequence[int], count: int) -> list[Candidate]:
        """Up to `count` continuations of the text and a path beyond it: those of the longest suffix
        first; of one length the most frequent, then the latest ones."""
        end = [*self._end, *path][-self._max_n :]
        found: dict[int, Candidate] = {}
        for start in range(len(end)):
            followers = self._followers.get(tuple(end[start:]), ())
            votes = Counter(token for token in reversed(followers[-RECENT:]) if token not in found)
            untold = votes.total()
            for token, count_of in votes.most_common():
                found[token] = Candidate(token, len(end) - start, count_of / untold)
                untold -= count_of
            if len(found) >= count:
                break
        return list(found.values())[:count]


class Calibration:
    """How often candidates are right if none before them is, by length and rank.

    Expected before anything is known: the longer the suffix the likelier, 0.3, 0.51, 0.66, ..., and
    the share that the token has of what followed it. That is scaled by (right + s) / (expected + s)
    over those that were tested, with s = `strength`: the posterior mean of a Poisson rate under a
    Gamma prior of mean 1.
    """

    def __init__(self, strength: float = 3.0) -> None:
        self._strength = strength
        self._right: Counter[tuple[int, int]] = Counter()
        self._expected: dict[tuple[int, int], float] = {}

    def chances(self, candidates: Sequence[Candidate]) -> list[float]:
        """The chance of each; together at most 1."""
        chances, left = [], 1.0
        for rank, candidate in enumerate(candidates):
            cell, s = _cell(candidate, rank), self._strength
            scale = (self._right[cell] + s) / (self._expected.get(cell, 0.0) + s)
            chances.append(left * min(_prior(candidate) * scale, MOST))
            left -= chances[-1]
        return chances

    def learn(self, candidates: Sequence[Candidate], token: int) -> None:
        """Take in which token came: every candidate up to it was tested."""
        for rank, candidate in enumerate(candidates):
            cell = _cell(candidate, rank)
            self._expected[cell] = self._expected.get(cell, 0.0) + _prior(candidate)
            if candidate.token == token:
                self._right[cell] += 1
                return


def _prior(candidate: Candidate) -> float:
    return (1 - 0.7**candidate.length) * candidate.share


def _cell(candidate: Candidate, rank: int) -> tuple[int, int]:
    return candidate.length, min(rank, RANKS - 1)
