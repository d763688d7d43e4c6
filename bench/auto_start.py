"""The start of `auto` beside `bestfirst` and `specbranch`: `python -m bench.auto_start`.

Three requests of 64 tokens, one after another on one policy object, replayed under the virtual
clock: on synthetic drafts over alignment and c, and on recorded texts of pairs. What is shown is
the time that `auto` takes over that of the better one at its defaults, of the first request and
of all three; below 1 `auto` is faster. A cell is several such groups, whose times are summed, for
texts of 64 tokens differ a lot; the better one is so by that sum, too.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import torch
from rich.console import Console
from rich.progress import Progress

from bench import markdown
from bench.commit import commit
from bench.methods import MAX_NODES
from bench.recordings import TEMPERATURES, Case, Recordings, cases
from bench.replays import CONCENTRATION, free, with_ratio
from specbranch.costs.model import CostModel
from specbranch.files import write_whole
from specbranch.policies import make_policy
from specbranch.replay import LawSource, Recording, Replayer, SyntheticLaws, rank_rates
from specbranch.replay import synthetic_recording as synthetic

RATIOS = (2, 4, 8, 15, 20)
ALIGNMENTS = (0.4, 0.7, 0.95)
CONCENTRATIONS = {"alike everywhere": None, "easy and hard places": CONCENTRATION}
TOKENS = 64  # of a request
REQUESTS = 3  # of a group
COSTS = Path("bench/results/costs-good.json")
WANTED = {"first": 1.10, "all": 1.03}

Request = tuple[Recording, LawSource]
Groups = Sequence[Sequence[Request]]


class Ratios(NamedTuple):
    """Times of `auto` over those of the better of the others."""

    first: float
    all: float


Cells = dict[str, dict[str, list[Ratios]]]  # by cost model and draft, for each c


def ratios(groups: Groups, costs: CostModel) -> Ratios:
    """Of some groups of requests, each started anew."""
    auto, *others = (times(name, groups, costs) for name in ("auto", "bestfirst", "specbranch"))
    return Ratios(*(mine / min(theirs) for mine, *theirs in zip(auto, *others, strict=True)))


def times(method: str, groups: Groups, costs: CostModel) -> tuple[float, float]:
    """Of the groups' first requests, and of all."""
    first = whole = 0.0
    for requests in groups:
        replayer = Replayer(make_policy(method), costs, max_nodes=MAX_NODES)
        seconds = [replayer.replay(*request).stats.wall_s for request in requests]
        first += seconds[0]
        whole += sum(seconds)
    return first, whole


def on_synthetic(alignment: float, concentration: float | None, count: int) -> Groups:
    """Groups of a synthetic draft, each request with a seed of its own."""
    rates, text = rank_rates(alignment), synthetic(TOKENS)
    laws = (
        SyntheticLaws(rates, concentration=concentration, seed=seed)
        for seed in range(count * REQUESTS)
    )
    return grouped([(text, each) for each in laws])


class Recorded:
    """Groups of a pair's recorded texts, those of one temperature together."""

    def __init__(self, recordings: Recordings, prompts: int) -> None:
        self._recordings = recordings
        self._cases = [case for t in TEMPERATURES for case in cases(0, prompts, [t])]
        self._laws = [recordings.laws(case) for case in self._cases]

    def groups(self) -> Groups:
        texts = map(self._text, self._cases)
        return grouped(list(zip(texts, self._laws, strict=True)))

    def save(self) -> None:
        """Keep what the draft has computed."""
        for case, laws in zip(self._cases, self._laws, strict=True):
            self._recordings.save(case, laws)

    def _text(self, case: Case) -> Recording:
        recording = self._recordings.recording(case)
        params = replace(recording.params, max_new_tokens=TOKENS)
        return replace(recording, text=recording.text[:TOKENS], params=params)


def grouped(requests: Sequence[Request]) -> Groups:
    return [requests[i : i + REQUESTS] for i in range(0, len(requests), REQUESTS)]


def report(cells: Cells, c: Sequence[int]) -> str:
    """The tables by cost model, and the goals."""
    lines = [f"# The start of auto, at {commit()}", ""]
    for clock, rows in cells.items():
        header = [f"{clock}: draft", *(f"c={each}" for each in c)]
        table = [
            [draft, *(f"{each.first:.2f}, {each.all:.2f}" for each in row)]
            for draft, row in rows.items()
        ]
        lines += [*markdown.table(header, *table), ""]
    found = [each for rows in cells.values() for row in rows.values() for each in row]
    goals = []
    for name, wanted in WANTED.items():
        column = [getattr(each, name) for each in found]
        met = f"{sum(each <= wanted for each in column)} of {len(column)}"
        goals.append([name, f"<= {wanted}", f"{fmean(column):.3f}", f"{max(column):.3f}", met])
    lines += markdown.table(("requests", "wanted", "mean", "worst cell", "met"), *goals)
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", default="builtin:smollm2")
    parser.add_argument("--drafts", nargs="*", default=[], help="of recorded pairs")
    parser.add_argument("--groups", type=int, default=2, help="of a synthetic draft's cell")
    parser.add_argument("--ratios", nargs="*", type=int, default=RATIOS, help="c")
    parser.add_argument("--alignments", nargs="*", type=float, default=ALIGNMENTS)
    parser.add_argument(
        "--costs", type=Path, default=COSTS, help="as `specbranch calibrate` writes"
    )
    parser.add_argument("--out", type=Path, default=Path("build/bench/auto-start.md"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    measured = CostModel.parse(f"virtual:{options.costs}")
    clocks = {
        "rows free": free,
        "rows as measured": lambda c: with_ratio(measured, c),
    }
    recorded = {draft: Recorded(Recordings(options.target, draft), 1) for draft in options.drafts}
    drafts = {
        f"alignment {alignment}, {kind}": partial(on_synthetic, alignment, spread, options.groups)
        for alignment in options.alignments
        for kind, spread in CONCENTRATIONS.items()
    } | {draft: texts.groups for draft, texts in recorded.items()}
    cells: Cells = {clock: {} for clock in clocks}
    with Progress(console=Console(stderr=True)) as bar:
        for draft, groups_of in bar.track(drafts.items()):
            groups = groups_of()
            for clock, costs_at in clocks.items():
                cells[clock][draft] = [ratios(groups, costs_at(c)) for c in options.ratios]
            if draft in recorded:
                recorded[draft].save()
            write_whole(options.out, report(cells, options.ratios))


if __name__ == "__main__":
    main()
