"""What forwards cost by their rows, learnt from those that ran (see the package)."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from specbranch.trace import Span, cost_ratio, overlap, seconds_of

RECENT = 8  # forwards of each lane that tell what it costs now
ADAPTATION = 0.2  # weight of the newest observation
SURPRISE = 2.0  # times what was known: a forward that took longer counts as if it took so long
FIXED = 0.5  # share of a forward that its rows are not to blame for, as long as nothing is known
FAR = 1e9  # rows: beyond any
MOST_CONTENTION = 2.0  # of two models that take turns on one device
_NOTHING: NDArray[np.float64] = np.empty(0)


def averaged(known: float, observed: float) -> float:
    """Seconds of late, with one more observation."""
    return known + ADAPTATION * (min(observed, SURPRISE * known) - known)


class CostRatio:
    """c: seconds of a target forward over those of a draft step, as last measured."""

    def __init__(self, value: float) -> None:
        self.value = value

    @property
    def steps(self) -> int:
        """Draft steps that fit beside a target forward, at least 1."""
        return max(1, round(self.value))

    def learn(self, measured: float) -> None:
        """Take in a measured ratio; 0 says that there is none."""
        self.value = measured or self.value


class RecentRatio:
    """c over the last forwards of each lane."""

    def __init__(self) -> None:
        self._draft: deque[float] = deque(maxlen=RECENT)
        self._target: deque[float] = deque(maxlen=RECENT)

    def after(self, spans: Sequence[Span]) -> float:
        """c once these were taken in; 0 while a lane has run no forward."""
        self._draft += seconds_of(spans, "draft")
        self._target += seconds_of(spans, "target")
        return cost_ratio(self._draft, self._target)


class RowTimes:
    """Seconds of a forward as a function of its rows.

    Observations are averaged over row counts from one power of two to the next, newer ones with
    more weight. No average counts for more than that of more rows: what a first forward takes,
    which has compiling and warming up in it, would keep so few rows from being tried again. The
    function is linear between those averages and goes on as between the last two, flat while there
    is one. Towards no rows it falls to the share FIXED of the first: fewer rows than were ever seen
    look cheaper, so that they are tried where rows matter least.
    """

    def __init__(self) -> None:
        self.most = 0  # rows seen
        self.fewest = math.inf
        self._averages: dict[int, tuple[float, float]] = {}  # by bit length: rows, seconds
        self._corners: list[tuple[float, float]] = []  # none if they are to be found anew
        self._table = _NOTHING  # of the first row counts, as far as somebody asked

    def learn(self, rows: int, seconds: float) -> None:
        """Take in a forward of `rows` rows that took `seconds`."""
        size = (rows - 1).bit_length()
        known_rows, known_seconds = self._averages.get(size, (rows, seconds))
        self._averages[size] = (
            known_rows + ADAPTATION * (rows - known_rows),
            averaged(known_seconds, seconds),
        )
        self.most, self.fewest = max(self.most, rows), min(self.fewest, rows)
        self._corners, self._table = [], _NOTHING

    def __call__(self, rows: int) -> float:
        """Expected seconds; 0 before anything was learnt."""
        corners = self._line()
        at = bisect_right(corners, (rows, math.inf))
        (before, earlier), (after, later) = corners[at - 1], corners[at]
        return earlier + (later - earlier) * (rows - before) / (after - before)

    def up_to(self, rows: int) -> NDArray[np.float64]:
        """Expected seconds of 0, 1, 2, ... rows; to be read only."""
        if len(self._table) <= rows:
            self._table = np.interp(np.arange(2 * rows + 1), *np.transpose(self._line()))
        return self._table[: rows + 1]

    def _line(self) -> list[tuple[float, float]]:
        """Rows and seconds between which the function is linear."""
        if not self._corners:
            self._corners = self._corners_of(_never_falling(sorted(self._averages.values())))
        return self._corners

    @staticmethod
    def _corners_of(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        if not points:
            return [(0.0, 0.0), (FAR, 0.0)]
        slope, (last, latest) = 0.0, points[-1]
        if len(points) > 1:
            before, earlier = points[-2]
            slope = max(0.0, (latest - earlier) / (last - before))
        return [(0.0, FIXED * points[0][1]), *points, (FAR, latest + slope * (FAR - last))]


def _never_falling(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Rows and seconds, in the order of rows, without seconds above those of more rows."""
    least = accumulate((seconds for _, seconds in reversed(points)), min)
    return [(rows, seconds) for (rows, _), seconds in zip(points, [*least][::-1], strict=True)]


class Costs:
    """Seconds of a draft step and of a target forward."""

    def __init__(self) -> None:
        self.draft, self.target = RowTimes(), RowTimes()
        self._latest: Sequence[Span] = ()

    @property
    def contention(self) -> float:
        """How many times as long as alone a target forward takes."""
        return 1.0

    @property
    def slowdown(self) -> float:
        """Seconds that a target forward gets longer by for each second of drafting beside it."""
        return 0.0

    def learn(self, spans: Sequence[Span]) -> None:
        """Take in what the lanes did; a round's spans count once, whoever tells of them."""
        if spans is not self._latest:
            self._latest = spans
            self._learn(spans)

    def _learn(self, spans: Sequence[Span]) -> None:
        for span in spans:
            if span.rows:
                times = self.draft if span.lane == "draft" else self.target
                times.learn(span.rows, span.end - span.start)


class SharedCosts(Costs):
    """Those of models that work at the same time.

    alone: of the same models while the other one rests, as far as they are known.
    """

    def __init__(self, alone: Costs) -> None:
        super().__init__()
        self._alone = alone
        self._beside = 0.0  # share of a target forward's time with drafting beside it, of late

    @property
    def contention(self) -> float:
        """The most before it is known."""
        rows = self._alone.target.most  # fewer, if not seen, only look cheap
        return self.target(rows) / self._alone.target(rows) if rows else MOST_CONTENTION

    @property
    def slowdown(self) -> float:
        """0 before it is known."""
        if not (self._beside and self._alone.target.most):
            return 0.0
        return min(1.0, max(0.0, 1 - 1 / self.contention) / self._beside)

    def _learn(self, spans: Sequence[Span]) -> None:
        super()._learn(spans)
        self._beside += ADAPTATION * (overlap(spans, "target", "draft") - self._beside)
