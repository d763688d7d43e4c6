"""What a person reads: the line under a text, the table of a comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from specbranch.comparison.runs import Run
from specbranch.comparison.session import WALL_CLOCK
from specbranch.logprobs import TokenLogprobs

Figures = Mapping[str, Any]
Summary = Mapping[str, Figures]

PERCENTAGES = {
    "accepted": "acceptance_rate",
    "hit rate": "hit_rate",
    "rollback": "rollback_rate",
    "branch waste": "branch_waste",
    "overlap": "overlap",
}


def summary_line(run: Run) -> str:
    """One line about a finished request."""
    generation, stats = run.generation, run.generation.stats
    time = f"{stats.wall_s:.2f} s"
    unit = run.env["clock_unit"]
    if run.host_s is not None:
        units = "s" if unit == "s" else f"{unit}s"
        time = f"{stats.wall_s:.2f} {units} of {run.env['clock']} ({run.host_s:.2f} s real)"
    drafting = f"accepted {stats.acceptance_rate:.0%}, overlap {stats.overlap:.0%}, "
    if stats.hrad_s:
        drafting += f"H-RAD {stats.hrad_share:.2%} of the time, "
    if not stats.draft_forwards:
        drafting = ""
    return (
        f"{run.method}: {stats.tokens} tokens in {time}, {_speed(stats.tokens_per_s)} tok/{unit} "
        f"(first token after {stats.first_token_s:.2f}, then {_speed(stats.pace)} tok/{unit}), "
        f"{stats.mean_accepted_length:.2f} tokens a target forward, {drafting}"
        f"ended by {generation.finish_reason}"
    )


def comparison_rows(summary: Summary) -> list[list[str]]:
    """The table's cells, the header first. Real seconds stand in the place of c where the clock is
    virtual, which says what c is."""
    virtual = any("host_s" in figures for figures in summary.values())
    last = "real s" if virtual else "c"
    header = ["method", "tok/s", "speedup", "M", *PERCENTAGES, last, "same as ar"]
    rows = [
        [
            method,
            *_cells(figures),
            f"{figures['host_s']:.1f}" if virtual else _ratio(figures["cost_ratio"]),
            _identical(figures),
        ]
        for method, figures in summary.items()
    ]
    return [header, *rows]


def logprob_lines(told: Sequence[TokenLogprobs], text_of: Callable[[int], str]) -> list[str]:
    """A line for each token: its text, its log-probability, then those of the likeliest."""
    lines = []
    for each in told:
        likeliest = ", ".join(
            f"{text_of(token)!r} {chance:.2f}" for token, chance in each.top.items()
        )
        lines.append(f"{text_of(each.token_id)!r:<14}{each.logprob:8.2f}   {likeliest}".rstrip())
    return lines


def terminal_table(rows: Sequence[Sequence[str]]) -> Table:
    """Rows of cells for a terminal, the header first: tight, its last words on a second line."""
    header, *body = rows
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=0, header_style="bold")
    for column in header:
        table.add_column("\n".join(column.rsplit(" ", 1)), justify="right", no_wrap=True)
    table.columns[0].justify = "left"
    for row in body:
        table.add_row(*map(escape, row))
    return table


def divergence_lines(summary: Summary) -> list[str]:
    """A line for each text that parts from the baseline's."""
    return [
        f"{method}, prompt {each['prompt']}: parts from ar at token {each['position']}, "
        f"where ar's margin was {margin_text(each['ar_margin'])}"
        for method, figures in summary.items()
        for each in figures["divergences"]
    ]


LEGEND = """\
M: tokens per target forward. Accepted: first guesses that held, of those tested. Hit rate: rounds \
whose last token had been drafted already. Rollback: what was discarded of the draft's first \
choices; branch waste: of its other guesses. Overlap: share of the draft's time during which the \
target works, too."""


def machine_line(env: Mapping[str, Any]) -> str:
    """The models and the machine behind a table, and what c or the clock is."""
    notes = {
        WALL_CLOCK: "c: seconds of a target forward over seconds of a draft step.",
        "draft step": "A second of this clock is a draft step.",
    }
    note = notes.get(env["clock"]) or notes.get(env["clock_unit"], "")
    return (
        f"target {env['target']} ({env['dtype']}), draft {env['draft']} (source {env['source']}), "
        f"on {env['device']}: {env['cpu']}, {env['cores']} cores, torch {env['torch']}, "
        f"clock {env['clock']}. {note}"
    )


def margin_text(margin: float | None) -> str:
    """A margin in few digits."""
    return "none" if margin is None else f"{margin:.1g}"


def _cells(figures: Figures) -> list[str]:
    drafted = figures["draft_forwards"] > 0
    return [
        _speed(figures["tokens_per_s"]),
        "-" if figures["speedup"] is None else f"{figures['speedup']:.2f}x",
        f"{figures['mean_accepted_length']:.2f}",
        *(f"{figures[key]:.0%}" if drafted else "-" for key in PERCENTAGES.values()),
    ]


def _speed(tokens_per_s: float) -> str:
    """More digits below one: a virtual clock's unit may be anything."""
    return f"{tokens_per_s:.1f}" if tokens_per_s >= 1 else f"{tokens_per_s:.3f}"


def _ratio(cost_ratio: float) -> str:
    return f"{cost_ratio:.1f}" if cost_ratio else "-"


def _identical(figures: Figures) -> str:
    answers = {None: "in law", True: "yes", False: "no"}
    return answers[figures["identical_to_ar"]]
