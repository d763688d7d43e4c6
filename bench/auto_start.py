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
from pathlib import Path
from statistics import fmean

import torch
from rich.console import Console
from rich.progress import Progress

from bench import markdown
from bench.commit import commit
from bench.goals import judge
from bench.methods import MAX_NODES
from bench.options import TARGET
from bench.recordings import TEMPERATURES, Recordings, cases
from bench.replays import CONCENTRATION, free, with_ratio
from specbranch.costs.model import CostModel
from specbranch.files import write_whole
from specbranch.policies import make_policy
from specbranch.replay import (
    DraftLaws,
    LawSource,
    Recording,
    Replayer,
    SyntheticLaws,
    rank_rates,
    synthetic_recording,
)

RATIOS = (2, 4, 8, 15, 20)
ALIGNMENTS = (0.4, 0.7, 0.95)
CONCENTRATIONS = {"alike everywhere": None, "easy and hard places": CONCENTRATION}
TOKENS = 64  # of a request
REQUESTS = 3  # of a group
COSTS = Path("bench/results/costs-good.json")
WANTED = {"first": "<= 1.1", "all": "<= 1.03"}

Request = tuple[Recording, LawSource]
Cells = dict[tuple[str, str, int], list[float]]  # by clock, draft and c: of the first, of all


def ratios(requests: Sequence[Request], costs: CostModel) -> list[float]:
    """Times of `auto` over those of the better of the others, each group started anew."""
    auto, *others = (times(name, requests, costs) for name in ("auto", "bestfirst", "specbranch"))
    return [mine / min(theirs) for mine, *theirs in zip(auto, *others, strict=True)]


def times(method: str, requests: Sequence[Request], costs: CostModel) -> tuple[float, float]:
    """Of the groups' first requests, and of all."""
    first = whole = 0.0
    for start in range(0, len(requests), REQUESTS):
        replayer = Replayer(make_policy(method), costs, max_nodes=MAX_NODES)
        group = requests[start : start + REQUESTS]
        seconds = [replayer.replay(*request).stats.wall_s for request in group]
        first += seconds[0]
        whole += sum(seconds)
    return first, whole


def on_synthetic(alignment: float, concentration: float | None, groups: int) -> list[Request]:
    rates, text = rank_rates(alignment), synthetic_recording(TOKENS)
    return [
        (text, SyntheticLaws(rates, concentration=concentration, seed=seed))
        for seed in range(groups * REQUESTS)
    ]


def on_recorded(recordings: Recordings) -> list[tuple[Recording, DraftLaws]]:
    """A prompt of each set at each temperature, those of one temperature together."""
    found = []
    for case in (case for t in TEMPERATURES for case in cases(0, 1, [t])):
        recording, laws = recordings.recording(case), recordings.laws(case)
        params = replace(recording.params, max_new_tokens=TOKENS)
        found.append((replace(recording, text=recording.text[:TOKENS], params=params), laws))
    return found


def report(cells: Cells) -> str:
    """A table by cost model, and the goals."""
    lines = [f"# The start of auto, at {commit()}", ""]
    clocks, drafts, c = (dict.fromkeys(names) for names in zip(*cells, strict=True))
    for clock in clocks:
        table = [
            [draft, *("{:.2f}, {:.2f}".format(*cells[clock, draft, each]) for each in c)]
            for draft in drafts
        ]
        header = [f"{clock}: draft", *(f"c={each}" for each in c)]
        lines += [*markdown.table(header, *table), ""]
    goals = []
    for name, column in zip(WANTED, zip(*cells.values(), strict=True), strict=True):
        found = judge(name, WANTED[name], dict(zip(map(str, cells), column, strict=True)))
        met = f"{found.met_by} of {found.shapes}"
        goals.append([name, found.wanted, f"{fmean(column):.3f}", f"{found.measured:.3f}", met])
    lines += markdown.table(("requests", "wanted", "mean", "worst cell", "met"), *goals)
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", default=TARGET)
    parser.add_argument("--drafts", nargs="*", default=[], help="of recorded pairs")
    parser.add_argument("--groups", type=int, default=8, help="of a synthetic draft's cell")
    parser.add_argument("--ratios", nargs="*", type=int, default=RATIOS, help="c")
    parser.add_argument("--alignments", nargs="*", type=float, default=ALIGNMENTS)
    about = "as `specbranch calibrate` writes"
    parser.add_argument("--costs", type=Path, default=COSTS, help=about)
    parser.add_argument("--out", type=Path, default=Path("build/bench/auto-start.md"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    measured = CostModel.parse(f"virtual:{options.costs}")
    clocks = {"rows free": free, "rows as measured": lambda c: with_ratio(measured, c)}
    drafts: dict[str, Sequence[Request]] = {
        f"alignment {alignment}, {kind}": on_synthetic(alignment, spread, options.groups)
        for alignment in options.alignments
        for kind, spread in CONCENTRATIONS.items()
    }
    for draft in options.drafts:
        drafts[draft] = on_recorded(Recordings(options.target, draft))
    with Progress(console=Console(stderr=True)) as bar:
        cells = {
            (clock, draft, c): ratios(requests, costs_at(c))
            for draft, requests in bar.track(drafts.items())
            for clock, costs_at in clocks.items()
            for c in options.ratios
        }
    write_whole(options.out, report(cells))


if __name__ == "__main__":
    main()
