"""What forwards cost by their rows, learnt from those that ran (see the package)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from specbranch.trace import Span

ADAPTATION = 0.2  # weight of the newest observation


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


class RowTimes:
    """Seconds of a forward as a function of its rows.

    Observations are averaged over row counts from one power of two to the next, newer ones with
    more weight, and the function is linear between those averages. Outside them it errs to where it
    will be corrected: more rows than were ever seen look free, fewer look cheaper in proportion.
    """

    def __init__(self) -> None:
        self._averages: dict[int, tuple[float, float]] = {}  # by bit length: rows, seconds
        self._points = np.zeros((1, 2))  # rows and seconds, from no rows on

    def learn(self, rows: int, seconds: float) -> None:
        """Take in a forward of `rows` rows that took `seconds`."""
        size = (rows - 1).bit_length()
        known_rows, known_seconds = self._averages.get(size, (rows, seconds))
        self._averages[size] = (
            known_rows + ADAPTATION * (rows - known_rows),
            known_seconds + ADAPTATION * (seconds - known_seconds),
        )
        self._points = np.array([(0.0, 0.0), *sorted(self._averages.values())])

    def __call__(self, rows: int) -> float:
        """Expected seconds; 0 before anything was learnt."""
        return float(np.interp(rows, *self._points.T))

    def up_to(self, rows: int) -> NDArray[np.float64]:
        """Expected seconds of 1, 2, ... rows."""
        return np.interp(np.arange(1, rows + 1), *self._points.T)


class Costs:
    """Seconds of a draft step and of a target forward."""

    def __init__(self) -> None:
        self.draft, self.target = RowTimes(), RowTimes()

    def learn(self, spans: Iterable[Span]) -> None:
        """Take in what the lanes did."""
        for span in spans:
            if span.rows:
                times = self.draft if span.lane == "draft" else self.target
                times.learn(span.rows, span.end - span.start)
