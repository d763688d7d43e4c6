"""What ops, decoding and schedules are to reach, and whether measurements say that they do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.gpu import GRAPH_WARM
from bench.ops.case import EXPANDED

Row = Mapping[str, Any]
"""A row of `bench.ops`."""
VERDICTS = {True: "met", False: "NOT met", None: "not measured"}
Ratios = Sequence[tuple[str, str, float]]
"""The one that is to be faster, the other one, and by how much."""


@dataclass(frozen=True, slots=True)
class Verdict:
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

    def __str__(self) -> str:
        found = "" if self.measured is None else f"{self.measured:.2f}, "
        return f"{self.name}: wanted {self.wanted}, {found}{VERDICTS[self.met]}"


def judge(name: str, wanted: str, found: Mapping[str, float]) -> Verdict:
    """wanted: a relation and a bound, as `>= 3` or `<= 10`. found: figures by their shapes."""
    relation, number = wanted.split()
    worst, bound = min if relation == ">=" else max, float(number)
    if not found:
        return Verdict(name, wanted, None, None, None, 0, 0)
    shape = worst(found, key=found.__getitem__)
    met_by = sum(worst(value, bound) == bound for value in found.values())
    return Verdict(name, wanted, shape, found[shape], met_by == len(found), met_by, len(found))


def of_ratios(speeds: Mapping[str, float], goals: Ratios) -> Iterator[Verdict]:
    """speeds: of those that were measured, by name."""
    for faster, other, least in goals:
        both = {faster, other} <= speeds.keys()
        found = {"": speeds[faster] / speeds[other]} if both else {}
        yield judge(f"{faster} over {other}", f">= {least:g}", found)


def decoding_goals(speedups: Mapping[str, float]) -> list[Verdict]:
    """On two cores, over all categories. speedups: of contenders, over plain decoding."""
    branching = ("specbranch", "bestfirst")
    best = max((name for name in branching if name in speedups), key=speedups.get, default="")
    ours = best or " and ".join(branching)
    goals = (("ar", "transformers", 1.0), (ours, "assisted", 1.3), (ours, "ar", 1.5))
    return list(of_ratios(speedups, goals))


# Of schedules, with rows free.
SCHEDULE_GOALS: Ratios = (
    ("bestfirst 8/32", "specbranch", 1.3),
    ("bestfirst 8/32", "pearl", 1.45),
    ("specbranch", "pearl", 1.05),
)
ROLLBACKS = {
    "rollback rate": "rollback_rate",
    "main-line tokens rolled back per committed one": "rolled_back_per_token",
}


def schedule_goals(methods: Sequence[Mapping[str, Any]]) -> Iterator[Verdict]:
    """methods: rows of `bench.pairs`. Of rollback something is wanted on a poor pair only."""
    by_label = {method["label"]: method for method in methods}
    yield from of_ratios({n: row["speedup"] for n, row in by_label.items()}, SCHEDULE_GOALS)
    for name, figure in ROLLBACKS.items():
        ours, theirs = (by_label.get(label, {}).get(figure) for label in ("specbranch", "pearl"))
        found = {"": ours / theirs} if ours is not None and theirs else {}
        yield judge(f"{name} of specbranch over pearl's, on a poor pair", "<= 0.5", found)


@dataclass(frozen=True, slots=True)
class Goal:
    """Of all rows of an op at certain parameters. figure: of a row, None where it has none."""

    op: str
    what: str
    where: Mapping[str, Any]
    figure: Callable[[Row], float | None]
    wanted: str

    def covers(self, row: Row) -> bool:
        known = {"model": row["model"], **row["params"]}
        return row["op"] == self.op and all(known.get(k) == v for k, v in self.where.items())

    def verdict(self, rows: Sequence[Row]) -> Verdict:
        found = {
            f"{row['model']}, {row['shape']}": value
            for row in rows
            if self.covers(row) and (value := self.figure(row)) is not None
        }
        return judge(f"{self.op}{self.what}", self.wanted, found)


def of(name: str) -> Callable[[Row], float | None]:
    return lambda row: row[name]


def over_expanded(row: Row) -> float | None:
    return row["speedup"].get(EXPANDED)


def warm_us(row: Row) -> float | None:
    """GPU time in a replayed graph."""
    ours = row["seconds"].get(GRAPH_WARM, {}).get("ours")
    return ours["median"] * 1e6 if ours else None


def over_best_peer(row: Row) -> float | None:
    """Over the best library besides torch, in replayed graphs."""
    seconds = row["seconds"].get(GRAPH_WARM, {})
    theirs = [seconds[name]["median"] for name in row["peers"] if name in seconds]
    return min(theirs) / seconds["ours"]["median"] if theirs else None


ATTENTION, COMPACTION = "branch_attention", "compact_kv_"
GREEDY, GUMBEL, REJECTION = (f"verify_tree, {c}" for c in ("greedy", "gumbel", "rejection"))
TREE, MOVE = {"batch": 1, "nodes": 8}, {"batch": 1, "moved": 4}
EIGHT_B = {"model": "Llama-3.1-8B", "branches": 8}
THROUGHPUT = {**EIGHT_B, "batch": 8, "context": 8192}
VERIFICATION = {**EIGHT_B, "batch": 1, "context": 32768}
ONE_8B = {"model": "Llama-3.1-8B"}
EAGER, GRAPH = ": speed over the eager chain", ": us in a replayed graph"

CPU_GOALS = [
    Goal(ATTENTION, f", context 8192, {branches} branches: {what}", where, figure, wanted)
    for branches in (1, 8)
    for where in [{"context": 8192, "branches": branches, "batch": 1}]
    for what, figure, wanted in (
        ("share of the lower roof", of("of_lower_roof"), ">= 0.6"),
        (f"speed over {EXPANDED}", over_expanded, ">= 3"),
    )
] + [
    Goal(GUMBEL, EAGER, TREE, of("over_eager"), ">= 3"),
    Goal(REJECTION, EAGER, TREE, of("over_eager"), ">= 3"),
    Goal(COMPACTION, EAGER, MOVE, of("over_eager"), ">= 5"),
]
SHARE = ", context 8192, batch 8, 8 branches: share of copy bandwidth"
PEER = "shape: speed over the best peer"
CUDA_GOALS = [  # of an H100
    Goal(ATTENTION, SHARE, THROUGHPUT, of("of_copy_bandwidth"), ">= 0.8"),
    Goal(ATTENTION, f", throughput {PEER}", THROUGHPUT, over_best_peer, ">= 1"),
    Goal(ATTENTION, f", verification {PEER}", VERIFICATION, over_best_peer, ">= 1.3"),
    Goal(GREEDY, GRAPH, ONE_8B | TREE, warm_us, "<= 10"),
    Goal(GUMBEL, GRAPH, ONE_8B | TREE, warm_us, "<= 15"),
    Goal(REJECTION, GRAPH, ONE_8B | TREE, warm_us, "<= 20"),
    Goal(COMPACTION, GRAPH, ONE_8B | MOVE, warm_us, "<= 6"),
]


def op_goals(device: str, rows: Sequence[Row]) -> list[Verdict]:
    """device: cpu or cuda."""
    return [goal.verdict(rows) for goal in {"cpu": CPU_GOALS, "cuda": CUDA_GOALS}[device]]
