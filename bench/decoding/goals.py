"""What decoding on two cores is to reach, and whether it does."""

from __future__ import annotations

from dataclasses import dataclass

from bench.decoding.figures import OVERALL, Table

PAIR = ("builtin:smollm2", "self:int4")
BRANCHING = ("specbranch", "bestfirst")


@dataclass(frozen=True, slots=True)
class Goal:
    """A ratio of two contenders' speeds. measured and met are None where one of them is missing."""

    name: str
    least: float
    measured: float | None
    met: bool | None

    def __str__(self) -> str:
        if self.measured is None:
            return f"{self.name}: wanted >= {self.least:g}x, not measured"
        answer = "met" if self.met else "NOT met"
        return f"{self.name}: wanted >= {self.least:g}x, {self.measured:.2f}x, {answer}"


def goals(table: Table) -> list[Goal]:
    """All goals, each over all categories."""
    speedups = {name: scopes[OVERALL].speedup for name, scopes in table.items()}
    best = max((name for name in BRANCHING if name in speedups), key=speedups.get, default="")
    ours = best or " and ".join(BRANCHING)
    return [
        _goal("ar over transformers", 1.0, speedups.get("ar"), speedups.get("transformers")),
        _goal(f"{ours} over assisted", 1.3, speedups.get(best), speedups.get("assisted")),
        _goal(f"{ours} over ar", 1.5, speedups.get(best), speedups.get("ar")),
    ]


def _goal(name: str, least: float, ours: float | None, theirs: float | None) -> Goal:
    measured = None if ours is None or theirs is None else ours / theirs
    return Goal(name, least, measured, None if measured is None else measured >= least)
