"""What forwards cost by their rows, learnt from those that ran (see the package)."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable

from specbranch.trace import Span

ADAPTATION = 0.2  # weight of the newest observation


class RowTimes:
    """Seconds of a forward as a function of its rows.

    Observations are averaged over row counts from one power of two to the next, newer ones with
    more weight, and the function is linear between those averages. Outside them it errs to where it
    will be corrected: more rows than were ever seen look free, fewer look cheaper in proportion.
    """

    def __init__(self) -> None:
        self._averages: dict[int, tuple[float, float]] = {}  # by bit length: rows, seconds

    def learn(self, rows: int, seconds: float) -> None:
        """Take in a forward of `rows` rows that took `seconds`."""
        size = (rows - 1).bit_length()
        known_rows, known_seconds = self._averages.get(size, (rows, seconds))
        self._averages[size] = (
            known_rows + ADAPTATION * (rows - known_rows),
            known_seconds + ADAPTATION * (seconds - known_seconds),
        )

    def __call__(self, rows: int) -> float:
        """Expected seconds; 0 before anything was learnt."""
        points = [(0.0, 0.0), *(self._averages[size] for size in sorted(self._averages))]
        place = bisect([point_rows for point_rows, _ in points], rows)
        if place == len(points):
            return points[-1][1]
        (low, below), (high, above) = points[place - 1], points[place]
        return below + (above - below) * (rows - low) / (high - low)


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
