"""What the ops are to reach on each kind of device, and whether measurements say that they do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from bench.gpu import GRAPH_WARM
from bench.ops.case import EXPANDED

US = 1e-6

Row = Mapping[str, Any]
"""A row of `bench.ops`."""


@dataclass(frozen=True, slots=True)
class Target:
    """A goal and what was found. measured, shape: the furthest from it, and where that was.

    met: by all shapes. These are None where nothing was measured. met_by, shapes: how many meet it,
    and of how many.
    """

    name: str
    wanted: str
    shape: str | None
    measured: float | None
    met: bool | None
    met_by: int
    shapes: int


@dataclass(frozen=True, slots=True)
class Goal:
    """bound of a figure over all rows of an op at certain parameters.

    figure: of a row, None where it has none.
    """

    name: str
    op: str
    where: Mapping[str, Any]
    figure: Callable[[Row], float | None]
    relation: Literal[">=", "<="]
    bound: float

    def covers(self, row: Row) -> bool:
        known = {"model": row["model"], **row["params"]}
        return row["op"] == self.op and all(known.get(k) == v for k, v in self.where.items())

    def judge(self, rows: Sequence[Row]) -> Target:
        found = {
            f"{row['model']}, {row['shape']}": value
            for row in rows
            if self.covers(row) and (value := self.figure(row)) is not None
        }
        wanted = f"{self.relation} {self.bound:g}"
        if not found:
            return Target(self.name, wanted, None, None, None, 0, 0)
        worst = min if self.relation == ">=" else max
        shape = worst(found, key=found.__getitem__)
        met_by = sum(worst(value, self.bound) == self.bound for value in found.values())
        met = met_by == len(found)
        return Target(self.name, wanted, shape, found[shape], met, met_by, len(found))


def of_lower_roof(row: Row) -> float | None:
    return row["of_lower_roof"]


def of_copy_bandwidth(row: Row) -> float | None:
    return row["of_copy_bandwidth"]


def over_eager(row: Row) -> float | None:
    return row["over_eager"]


def over_expanded(row: Row) -> float | None:
    return row["speedup"].get(EXPANDED)


def warm_us(row: Row) -> float | None:
    """GPU time in a replayed graph."""
    ours = row["seconds"].get(GRAPH_WARM, {}).get("ours")
    return ours["median"] / US if ours else None


def over_best_peer(row: Row) -> float | None:
    """Over the best library besides torch, in replayed graphs."""
    seconds = row["seconds"].get(GRAPH_WARM, {})
    theirs = [seconds[name]["median"] for name in row["peers"] if name in seconds]
    return min(theirs) / seconds["ours"]["median"] if theirs else None


def cpu_goals() -> list[Goal]:
    attention, context = "branch_attention", 8192
    return [
        Goal(f"{attention}, context {context}, {branches} branches: {name}", attention, where, *of)
        for branches in (1, 8)
        for where in [{"context": context, "branches": branches, "batch": 1}]
        for name, *of in (
            ("share of the lower roof", of_lower_roof, ">=", 0.6),
            (f"speed over {EXPANDED}", over_expanded, ">=", 3),
        )
    ] + [
        Goal(f"{op}: speed over the eager chain", op, where, over_eager, ">=", least)
        for op, where, least in (
            ("verify_tree, gumbel", {"batch": 1, "nodes": 8}, 3),
            ("verify_tree, rejection", {"batch": 1, "nodes": 8}, 3),
            ("compact_kv_", {"batch": 1, "moved": 4}, 5),
        )
    ]


def cuda_goals() -> list[Goal]:
    """Of an H100."""
    llama = {"model": "Llama-3.1-8B"}
    one_tree = {**llama, "batch": 1, "nodes": 8}
    throughput = {**llama, "batch": 8, "context": 8192, "branches": 8}
    verification = {**llama, "batch": 1, "context": 32768, "branches": 8}
    return [
        Goal(f"{op}{what}", op, *of)
        for op, what, *of in (
            (
                "branch_attention",
                ", context 8192, batch 8, 8 branches: share of copy bandwidth",
                throughput,
                of_copy_bandwidth,
                ">=",
                0.8,
            ),
            (
                "branch_attention",
                ", throughput shape: speed over the best peer",
                throughput,
                over_best_peer,
                ">=",
                1,
            ),
            (
                "branch_attention",
                ", verification shape: speed over the best peer",
                verification,
                over_best_peer,
                ">=",
                1.3,
            ),
            ("verify_tree, greedy", ": us in a replayed graph", one_tree, warm_us, "<=", 10),
            ("verify_tree, gumbel", ": us in a replayed graph", one_tree, warm_us, "<=", 15),
            ("verify_tree, rejection", ": us in a replayed graph", one_tree, warm_us, "<=", 20),
            (
                "compact_kv_",
                ": us in a replayed graph",
                {**llama, "batch": 1, "moved": 4},
                warm_us,
                "<=",
                6,
            ),
        )
    ]


GOALS: dict[str, Callable[[], list[Goal]]] = {"cpu": cpu_goals, "cuda": cuda_goals}


def targets(device: str, rows: Sequence[Row]) -> list[Target]:
    """device: cpu or cuda."""
    return [goal.judge(rows) for goal in GOALS[device]()]


def as_rows(found: Sequence[Target]) -> list[dict[str, Any]]:
    """For JSON."""
    return [asdict(target) for target in found]
