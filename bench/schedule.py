"""Schedules at any scale, under the virtual clock with rows free: `python -m bench.schedule`.

Every method over the cost ratio c = T_target / T_draft and the draft's alignment, which is the
chance that its first guess is right: on synthetic acceptance, on real tokens of a recorded pair,
and against the speedups that arXiv 2506.01979 publishes. A cell that is in the results already is
kept, so an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean, geometric_mean
from typing import Any

from rich.console import Console
from rich.progress import Progress
from scipy.optimize import brentq

from bench import markdown
from bench.methods import MAX_NODES, Sweep, coarse_sweeps
from bench.prompts import TUNING
from bench.recordings import Case, Recordings, cases
from bench.schedule_figures import draw_heatmaps, draw_lines
from specbranch.costs.model import PRESETS, CostModel
from specbranch.files import write_whole
from specbranch.replay import LawSource, Recording, Replayer, SyntheticLaws, rank_rates
from specbranch.replay import synthetic_recording as synthetic
from specbranch.stats import Stats

RATIOS = (4, 8, 12, 20)
ALIGNMENTS = (0.3, 0.45, 0.6, 0.75, 0.9, 0.97)
CONCENTRATION = 2.0  # easy and hard places: at 0.75 the beta law has parameters 1.5 and 0.5
TOKENS = 600  # of a cell
TABLE_TOKENS = 3000  # of a cell beside published figures
TASKS = ("HumanEval", "GSM8K", "CNN-DM")
COMPARED = ("pearl", "specbranch", "bestfirst 8/32")
COLUMNS = ("pair, c", "task", "alignment", "PEARL published", "replayed")
COLUMNS += ("SpecBranch published", "replayed", "bestfirst 8/32, replayed")
# Speedups over plain decoding by task, arXiv 2506.01979.
PUBLISHED = {
    "llama-68m-7b": {"pearl": (1.69, 1.86, 1.66), "specbranch": (2.04, 2.12, 1.87)},
    "vicuna-68m-13b": {"pearl": (2.02, 1.61, 1.68), "specbranch": (2.47, 1.95, 1.89)},
    "deepseek-1.3b-33b": {"pearl": (3.39, 2.78, 2.63), "specbranch": (3.71, 3.02, 2.97)},
    "llama-3.1-8b-70b": {"pearl": (3.75, 3.35, 3.04), "specbranch": (4.02, 3.67, 3.37)},
}

Request = tuple[Recording, LawSource]
Cell = dict[str, Any]


def measure(sweep: Sweep, c: int, requests: Callable[[], Iterator[Request]]) -> Cell:
    """The method at its best on some requests, each replayed as `requests` hands it out."""
    costs = CostModel.rows_free(f"c={c}", c)
    best: Cell = {}
    for variant in sweep.variants():
        replayer = Replayer(variant.policy(), costs, max_nodes=MAX_NODES)
        runs = [replayer.replay(*request).stats for request in requests()]
        cell = figures(runs, c) | {"parameters": variant.parameters()}
        best = max(best, cell, key=lambda each: each.get("speedup", 0.0))
    return best


def figures(runs: Sequence[Stats], c: int) -> Cell:
    """Means over the requests; of the speedup the geometric one."""
    return {
        "speedup": geometric_mean(c * stats.tokens / stats.wall_s for stats in runs),
        "mean_accepted_length": fmean(stats.mean_accepted_length for stats in runs),
        "rollback_rate": fmean(stats.rollback_rate for stats in runs),
        "branch_waste": fmean(stats.branch_waste for stats in runs),
        "waste_of_all": fmean(stats.discarded_rate for stats in runs),
        "overlap": fmean(stats.overlap for stats in runs),
    }


class Results:
    """Cells by name, in a JSON file that is written as they come."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.cells: dict[str, Cell] = json.loads(path.read_text()) if path.is_file() else {}

    def cell(self, name: str, compute: Callable[[], Cell]) -> Cell:
        if name not in self.cells:
            self.cells[name] = compute()
            write_whole(self._path, json.dumps(self.cells, indent=1) + "\n")
        return self.cells[name]


def _told_apart(sweep: Sweep) -> str:
    """The method, and a digest of what is swept under which constants."""
    shapes_it = repr([dict(sweep.grid), CONCENTRATION, MAX_NODES])
    return f"{sweep.label} {hashlib.sha256(shapes_it.encode()).hexdigest()[:6]}"


def on_synthetic(
    results: Results, c: int, alignment: float, sweeps: Sequence[Sweep], tokens: int
) -> dict[str, Cell]:
    """Methods on one synthetic draft and text."""

    def requests() -> Iterator[Request]:
        laws = SyntheticLaws(rank_rates(alignment), concentration=CONCENTRATION)
        yield synthetic(tokens), laws

    return {
        sweep.label: results.cell(
            f"synthetic, {tokens} tokens, c={c}, alignment {alignment:.3f}, {_told_apart(sweep)}",
            lambda sweep=sweep: measure(sweep, c, requests),
        )
        for sweep in sweeps
    }


def on_real_tokens(
    results: Results, recordings: Recordings, wanted: Sequence[Case], c: int
) -> dict[str, Cell]:
    """All methods on recorded texts of one pair."""

    def requests() -> Iterator[Request]:
        for case in wanted:
            laws = recordings.laws(case)
            yield recordings.recording(case), laws
            recordings.save(case, laws)

    return {
        sweep.label: results.cell(
            f"{recordings.target}, {recordings.draft}, c={c}, {_told_apart(sweep)}",
            lambda sweep=sweep: measure(sweep, c, requests),
        )
        for sweep in coarse_sweeps(c)
    }


def pearl_speedup(alignment: float, c: float) -> float:
    """PEARL's two states (arXiv 2408.11850) in the long run, with gamma = c: one token while
    nothing is pending, (1 - a^c) / (1 - a) while guesses are."""
    all_right = alignment**c
    pending = (1 - all_right) / (1 - alignment)
    weights = 1 - all_right, alignment
    return (weights[0] + weights[1] * pending) / sum(weights)


def alignment_of(pair: str, task: int) -> float:
    """The alignment at which PEARL would have its published speedup."""
    wanted = PUBLISHED[pair]["pearl"][task]
    return brentq(lambda a: pearl_speedup(a, PRESETS[pair]) - wanted, 0.01, 0.9999)


def published_rows(results: Results) -> Iterator[list[str]]:
    """Published and replayed speedups side by side, at the alignment that PEARL's implies."""
    for pair, published in PUBLISHED.items():
        c = int(PRESETS[pair])
        compared = [sweep for sweep in coarse_sweeps(c) if sweep.label in COMPARED]
        for index, task in enumerate(TASKS):
            alignment = alignment_of(pair, index)
            cells = on_synthetic(results, c, alignment, compared, TABLE_TOKENS)
            pearl, branch, best = (f"{cells[label]['speedup']:.2f}" for label in COMPARED)
            yield [
                f"{pair}, {c}",
                task,
                f"{alignment:.2f}",
                f"{published['pearl'][index]}",
                pearl,
                f"{published['specbranch'][index]}",
                branch,
                best,
            ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", default="builtin:smollm2")
    parser.add_argument("--drafts", nargs="*", default=[], help="of recorded pairs, replayed too")
    parser.add_argument("--ratios", nargs="*", type=int, default=RATIOS, help="c")
    parser.add_argument("--alignments", nargs="*", type=float, default=ALIGNMENTS)
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="folder")
    options = parser.parse_args()
    results = Results(options.out / "schedule.json")
    published = len(PUBLISHED) * len(TASKS)
    with Progress(console=Console(stderr=True)) as bar:
        grid = {
            (c, alignment): on_synthetic(results, c, alignment, coarse_sweeps(c), TOKENS)
            for c in bar.track(options.ratios, description="synthetic")
            for alignment in options.alignments
        }
        rows = list(bar.track(published_rows(results), description="published", total=published))
        lines = {}
        for draft in options.drafts:
            recordings = Recordings(options.target, draft)
            lines[draft] = {
                c: on_real_tokens(results, recordings, cases(*TUNING), c)
                for c in bar.track(options.ratios, description=draft)
            }
    table = ["# Beside the published table", "", *markdown.table(COLUMNS, *rows)]
    write_whole(options.out / "schedule.md", "\n".join(table) + "\n")
    draw_heatmaps(grid, "speedup", options.out / "schedule-speedup.png")
    draw_heatmaps(grid, "rollback_rate", options.out / "schedule-rollback.png")
    draw_lines(grid, lines, options.out / "schedule-lines.png")


if __name__ == "__main__":
    main()
