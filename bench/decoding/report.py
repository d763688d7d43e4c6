"""The figures for people: a table on the terminal, a Markdown page, a JSON summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from bench import markdown as md
from bench.decoding.figures import OVERALL, Figures, Table
from bench.decoding.records import Record
from bench.goals import Verdict, decoding_goals
from specbranch.comparison.report import PERCENTAGES, margin_text, terminal_table

PAIR = ("builtin:smollm2", "self:int4")  # that the goals are set for


@dataclass(frozen=True, slots=True)
class Report:
    """made_under: the run file's first line. about: the peers that ran and those that did not."""

    made_under: Mapping[str, Any]
    about: Mapping[str, str]
    table: Table
    records: Sequence[Record]

    @property
    def categories(self) -> list[str]:
        """In the order of the runs, all of them last."""
        names = {scope: None for scopes in self.table.values() for scope in scopes}
        return [*(name for name in names if name != OVERALL), OVERALL]

    def verdicts(self) -> list[Verdict]:
        return decoding_goals({name: of[OVERALL].speedup for name, of in self.table.items()})


def print_report(report: Report, console: Console) -> None:
    """Speeds, shares and goals, 110 columns wide."""
    for rows in (speed_rows(report), drafting_rows(report, OVERALL)):
        console.print(terminal_table(rows))
        console.print()
    for line in (*goal_lines(report), *peer_lines(report), *conditions(report)):
        console.print(line, style="dim", highlight=False)


def speed_rows(report: Report) -> list[list[str]]:
    """Speedups by category, the header first."""
    categories = report.categories
    header = ["", "tok/s", *categories, "spread", "first token", "same as ar"]
    rows = [
        [
            name,
            f"{figures[OVERALL].tokens_per_s:.1f}",
            *(f"{figures[each].speedup:.2f}x" if each in figures else "-" for each in categories),
            f"{min(figures[OVERALL].speedups):.2f}-{max(figures[OVERALL].speedups):.2f}",
            f"{figures[OVERALL].first_token_s:.2f} s",
            _identical(figures[OVERALL]),
        ]
        for name, figures in report.table.items()
    ]
    return [header, *rows]


def drafting_rows(report: Report, scope: str) -> list[list[str]]:
    """What a category's runs came to, the header first."""
    header = ["", "runs", "tokens", "tok/s", "first token", "M", *PERCENTAGES]
    header += ["rolled back/token", "c", "same as ar"]
    return [
        header,
        *(
            [name, *_counts(scopes[scope]), *_shares(scopes[scope]), _identical(scopes[scope])]
            for name, scopes in report.table.items()
            if scope in scopes
        ),
    ]


def _counts(figures: Figures) -> list[str]:
    return [
        f"{figures.runs} of {figures.wanted}",
        f"{figures.tokens}",
        f"{figures.tokens_per_s:.1f}",
        f"{figures.first_token_s:.2f} s",
        f"{figures.stats.mean_accepted_length:.2f}",
    ]


def _shares(figures: Figures) -> list[str]:
    stats = figures.stats
    shares = [f"{getattr(stats, key):.0%}" for key in PERCENTAGES.values()]
    shares += [f"{stats.rolled_back_per_token:.2f}", f"{stats.cost_ratio:.1f}"]
    return shares if figures.drafts else ["-"] * len(shares)


def goal_lines(report: Report) -> list[str]:
    lines = list(map(str, report.verdicts()))
    made = report.made_under
    if (made["target"], made["draft"]) != PAIR or made["temperature"] > 0:
        lines.append(f"(the goals are set for {' and '.join(PAIR)}, greedy)")
    return lines


def peer_lines(report: Report) -> list[str]:
    return [f"{name}: {about}" for name, about in report.about.items()]


def conditions(report: Report) -> Iterator[str]:
    """What the runs were made under, and what of it should be known."""
    made = report.made_under
    processes = len({record["process"] for record in report.records})
    yield (
        f"target {made['target']} ({made['dtype']}), draft {made['draft']}, on {made['device']}: "
        f"{made['cpu']}, {made['cores']} cores, torch {made['torch']}, transformers "
        f"{made['transformers']}; temperature {made['temperature']:g}, at most "
        f"{made['max_new_tokens']} tokens, {processes} process{'es' if processes > 1 else ''}, at "
        f"{made['commit']}"
    )
    if made["prompts"] != "files":
        yield "example prompts: too few for figures"


def divergence_lines(report: Report) -> list[str]:
    """A line for each text that should be the baseline's and is not, once for all repetitions."""
    lines = [
        f"{record['contender']}, {record['id']}, turn {record['turn'] + 1}: from token "
        f"{divergence['position']}, where ar's margin was {margin_text(divergence['ar_margin'])}"
        for record in report.records
        if (divergence := record["divergence"])
    ]
    return list(dict.fromkeys(lines))


def markdown(report: Report, pictures: Mapping[str, str], command: str) -> str:
    """pictures: file names by what they show."""
    lines = ["# Decoding", "", f"`{command}`", ""]
    lines += [f"{line}." for line in conditions(report)]
    lines += ["", *_bullets(goal_lines(report)), "", "## Speed", "", *md.table(*speed_rows(report))]
    lines += ["", *READING_SPEED.splitlines(), "", *_bullets(peer_lines(report))]
    lines += ["", "## Drafting", "", *READING_DRAFTING.splitlines(), ""]
    for scope in report.categories:
        lines += [f"{scope.capitalize()}:", "", *md.table(*drafting_rows(report, scope)), ""]
    lines += [f"![{what}]({name})" for what, name in pictures.items()]
    lines += ["", "## Texts that part from plain decoding's", ""]
    lines += _bullets(divergence_lines(report) or ["none"])
    return "\n".join(lines) + "\n"


READING_SPEED = """\
Speedup over `ar`, our plain decoding on all cores: tokens over seconds against its tokens over
seconds on the same prompts, the median of the repetitions, with their least and most as spread.
Contenders take turns prompt by prompt, warmed up. Time is from the call to its return, prefill
included; tokens are counted as generated. Second turns follow `ar`'s first answer. First token:
the median time to it. Same as ar: texts identical token by token, of those that have to be."""

READING_DRAFTING = """\
M: tokens committed per target forward. Accepted: of the main-line guesses that were tested.
Rollback: discarded of those drafted on the main line; branch waste: off it. Overlap: share of the
draft's busy time during which the target is busy. c: seconds of a target forward over seconds of a
draft step, as measured. Runs: of those that `ar` made."""


def as_json(report: Report) -> dict[str, Any]:
    """All figures, with what the tables leave out."""
    return {
        "made_under": dict(report.made_under),
        "peers": dict(report.about),
        "goals": [asdict(verdict) for verdict in report.verdicts()],
        "figures": {
            name: {scope: _figures_json(figures) for scope, figures in scopes.items()}
            for name, scopes in report.table.items()
        },
    }


def _figures_json(figures: Figures) -> dict[str, Any]:
    own = asdict(figures)
    stats = own.pop("stats")
    del stats["accepted_lengths"]
    rates = ("mean_accepted_length", "rolled_back_per_token", *PERCENTAGES.values())
    return {
        **own,
        **{rate: getattr(figures.stats, rate) for rate in rates},
        "acceptance_by_position": figures.stats.acceptance_by_position,
        "stats": stats,
    }


def _identical(figures: Figures) -> str:
    if not figures.compared:
        return "in law"
    if figures.identical == figures.compared:
        return "yes"
    return f"{figures.identical} of {figures.compared}"


def _bullets(lines: Sequence[str]) -> list[str]:
    return [f"- {line}" for line in lines]
