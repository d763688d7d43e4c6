"""What a person reads: the line under a text, the table of a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from specbranch.cli.runs import Run

Figures = Mapping[str, Any]
Summary = Mapping[str, Figures]

PERCENTAGES = {
    "acceptance": "acceptance_rate",
    "hit rate": "hit_rate",
    "rollback": "rollback_rate",
    "branch waste": "branch_waste",
    "overlap": "overlap",
}


def summary_line(run: Run) -> str:
    """One line about a finished request."""
    generation, stats = run.generation, run.generation.stats
    time = f"{stats.wall_s:.2f} s"
    if run.host_s is not None:
        time = f"{stats.wall_s:.2f} s of {run.env['clock']} ({run.host_s:.2f} s real)"
    return (
        f"{run.method}: {stats.tokens} tokens in {time}, {stats.tokens_per_s:.1f} tok/s, "
        f"{stats.mean_accepted_length:.2f} tokens per target forward, "
        f"acceptance {stats.acceptance_rate:.0%}, overlap {stats.overlap:.0%}, "
        f"ended by {generation.finish_reason}"
    )


def comparison_rows(summary: Summary) -> list[list[str]]:
    """The table's cells, the header first."""
    real = any("host_s" in figures for figures in summary.values())
    header = ["method", "tok/s", "speedup", "M", *PERCENTAGES, "c", "identical to ar"]
    rows = [[method, *_cells(figures)] for method, figures in summary.items()]
    if real:
        header.append("real s")
        for row, figures in zip(rows, summary.values(), strict=True):
            row.append(f"{figures['host_s']:.1f}")
    return [header, *rows]


def comparison_table(summary: Summary) -> Table:
    """The table for a terminal."""
    header, *rows = comparison_rows(summary)
    table = Table(header_style="bold")
    for column in header:
        left = column in ("method", "identical to ar")
        table.add_column(column, justify="left" if left else "right", no_wrap=column == "method")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def machine_line(env: Mapping[str, Any]) -> str:
    """The models and the machine behind a table, and what c is."""
    return (
        f"target {env['target']} ({env['dtype']}), draft {env['draft']}, on {env['device']}: "
        f"{env['cpu']}, {env['cores']} cores, torch {env['torch']}, clock {env['clock']}. "
        "c: seconds of a target forward over seconds of a draft step."
    )


def divergence_text(divergence: Mapping[str, Any]) -> str:
    """Where a text parts from the baseline's, and how nearly the baseline went that way."""
    margin = margin_text(divergence["ar_margin"])
    return f"prompt {divergence['prompt']} at token {divergence['position']}, margin {margin}"


def margin_text(margin: float | None) -> str:
    """A margin in few digits."""
    return "none" if margin is None else f"{margin:.1g}"


def _cells(figures: Figures) -> list[str]:
    drafted = figures["draft_forwards"] > 0
    return [
        f"{figures['tokens_per_s']:.3g}",
        "-" if figures["speedup"] is None else f"{figures['speedup']:.2f}x",
        f"{figures['mean_accepted_length']:.2f}",
        *(f"{figures[key]:.0%}" if drafted else "-" for key in PERCENTAGES.values()),
        f"{figures['cost_ratio']:.1f}" if drafted else "-",
        _identical(figures),
    ]


def _identical(figures: Figures) -> str:
    if figures["identical_to_ar"] is None:
        return "equal in law"
    if figures["identical_to_ar"]:
        return "yes"
    first = divergence_text(figures["divergences"][0])
    return f"no, {figures['identical_runs']} of {figures['runs']}; {first}"
