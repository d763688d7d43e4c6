"""A record of measurements as a page of Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench import markdown as md
from bench.goals import VERDICTS
from bench.ops.case import OURS

Record = Mapping[str, Any]
FIGURES = ("op", "model", "shape", "ours, us", "min to max", "eager torch", "best library")
FIGURES += ("MB", "GB/s", "of copy", "of lower roof")
GOAL_COLUMNS = (
    "goal",
    "wanted",
    "measured",
    "at its worst shape",
    "shapes that meet it",
    "verdict",
)


def columns(record: Record) -> list[str]:
    """The table's header: figures of the first clock, then our time by each other one."""
    return [*FIGURES, *(f"ours, us: {clock}" for clock in record["clocks"][1:])]


def cells(row: Mapping[str, Any]) -> list[str]:
    """A row of the table."""
    ours, *others = (timings[OURS] for timings in row["seconds"].values())
    library = row["best_library"]
    return [
        row["op"],
        row["model"],
        row["shape"],
        _us(ours["median"]),
        f"{_us(ours['min'])} to {_us(ours['max'])}",
        _times(row["over_eager"]),
        f"{_times(row['over_best_library'])} {library}" if library else "-",
        f"{row['floor_bytes'] / 1e6:.3g}",
        f"{row['gb_per_s']:.3g}",
        f"{row['of_copy_bandwidth']:.0%}",
        _percent(row["of_lower_roof"]),
        *(_us(timing["median"]) for timing in others),
    ]


def goal_cells(goal: Mapping[str, Any]) -> list[str]:
    measured = goal["measured"]
    return [
        goal["name"],
        goal["wanted"],
        "-" if measured is None else f"{measured:.2f}",
        goal["shape"] or "-",
        f"{goal['met_by']} of {goal['shapes']}",
        VERDICTS[goal["met"]],
    ]


def markdown(record: Record) -> str:
    """Goals, figures, and what was left out of them."""
    lines = [
        "# Ops",
        "",
        f"{machine(record)}, at {record['environment']['commit']}. Times are medians in "
        f"microseconds, {next(iter(record['clocks']))} "
        "clock (wall: after an untimed call, no threads awake but the call's own); eager torch and "
        "the best library by how many times as long they take; `of copy` compares with a copy that "
        "reads and writes as many bytes in all, in the same turns, `of lower roof` with that or a "
        "matrix product of as many operations, whichever takes longer.",
        "",
        *md.table(GOAL_COLUMNS, *map(goal_cells, record["goals"])),
        "",
        *md.table(columns(record), *map(cells, record["rows"])),
        "",
        *(f"- {line}" for line in omissions(record)),
    ]
    return "\n".join(lines) + "\n"


def omissions(record: Record) -> list[str]:
    """Who did not take part, and why; what failed; what is not to be believed."""
    return [
        *(f"{name}: FAILED, {why}" for name, why in record["failed"].items()),
        *(f"{name}: absent, {why}" for name, why in record["absent"].items()),
        *(f"{name}: skipped, {why}" for name, why in record["skipped"].items()),
        *(
            f"{row['op']}, {row['model']}, {row['shape']}: without {name}, {why}"
            for row in record["rows"]
            for name, why in row["left_out"].items()
        ),
        *(
            f"{row['op']}, {row['model']}, {row['shape']}: disturbed by other work, measure again "
            f"({', '.join(row['disturbed'])}: median over twice the minimum)"
            for row in record["rows"]
            if row["disturbed"]
        ),
    ]


def machine(record: Record) -> str:
    env = record["environment"]
    if "gpu" in env:
        return f"{env['gpu']}, torch {env['torch']}"
    return (
        f"{env['cpu']}, {env['threads']} threads of {env['cores']} cores, "
        f"{env['cpu_capability']}, torch {env['torch']}"
    )


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.4g}"


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.1f}x"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"
