"""What forwards cost by their rows, learnt from those that ran."""

from __future__ import annotations

from bisect import bisect

ADAPTATION = 0.2  # weight of the newest observation


class RowTimes:
    """Seconds of a forward as a function of its rows.

    Observations are averaged over row counts from one power of two to the next, newer ones with
    more weight; between those averages the function is linear, beyond them constant. So more rows
    than were ever tried look free, and are tried.
    """

    def __init__(self) -> None:
        self._averages: dict[int, tuple[float, float]] = {}  # by bit length: rows, seconds

    def __bool__(self) -> bool:
        return bool(self._averages)

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
        points = [self._averages[size] for size in sorted(self._averages)]
        place = bisect(points, (rows, 0.0))
        if not 0 < place < len(points):
            return points[min(place, len(points) - 1)][1] if points else 0.0
        (low, below), (high, above) = points[place - 1], points[place]
        return below + (above - below) * (rows - low) / (high - low)
