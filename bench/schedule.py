"""Schedules at any scale, under the virtual clock with rows free: `python -m bench.schedule`.

Every method over the cost ratio c = T_target / T_draft and the draft's alignment, which is the
chance that its first guess is right, on synthetic acceptance; and beside the speedups that arXiv
2506.01979 publishes. A cell that this code has made is kept, so an interrupted run goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress
from scipy.optimize import brentq

from bench import markdown
from bench.commit import commit
from bench.methods import Sweep, sweeps
from bench.replays import Cell, Cells, best, figures, free, replayed, synthetic
from specbranch.costs.model import PRESETS
from specbranch.files import write_whole
from specbranch.pictures import save_picture

RATIOS = (4, 8, 12, 20)
ALIGNMENTS = (0.3, 0.45, 0.6, 0.75, 0.9, 0.97)
TOKENS = 600  # of a cell
TABLE_TOKENS = 3000  # of a cell beside published figures
TASKS = ("HumanEval", "GSM8K", "CNN-DM")
COLUMNS = ("pair, c", "task", "alignment", "PEARL published", "replayed")
COLUMNS += ("SpecBranch published", "replayed", "bestfirst 8/32, replayed")
TITLES = {"speedup": "speedup over plain decoding", "rollback_rate": "rollback rate, main line"}
# Speedups over plain decoding by task, arXiv 2506.01979.
PUBLISHED = {
    "llama-68m-7b": {"pearl": (1.69, 1.86, 1.66), "specbranch": (2.04, 2.12, 1.87)},
    "vicuna-68m-13b": {"pearl": (2.02, 1.61, 1.68), "specbranch": (2.47, 1.95, 1.89)},
    "deepseek-1.3b-33b": {"pearl": (3.39, 2.78, 2.63), "specbranch": (3.71, 3.02, 2.97)},
    "llama-3.1-8b-70b": {"pearl": (3.75, 3.35, 3.04), "specbranch": (4.02, 3.67, 3.37)},
}

Grid = Mapping[tuple[int, float], Mapping[str, Cell]]  # by c and alignment, then method


def compared(sweep: Sweep, c: int, alignment: float, tokens: int) -> Cell:
    """A method at its best on one synthetic draft and text."""
    costs, requests = free(c), synthetic(alignment, tokens)
    variant = best(sweep, costs, requests)
    found = figures(replayed(variant, costs, requests), costs)
    return found | {"parameters": variant.parameters()}


def cell(cells: Cells, sweep: Sweep, c: int, alignment: float, tokens: int) -> Cell:
    name = f"{tokens} tokens, c={c}, alignment {alignment:.3f}, {sweep.label}, {sweep.grid}"
    return cells.cell(name, lambda: compared(sweep, c, alignment, tokens))


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


def published_rows(cells: Cells) -> Iterator[list[str]]:
    """Published and replayed speedups side by side, at the alignment that PEARL's implies."""
    for pair, published in PUBLISHED.items():
        c = int(PRESETS[pair])
        own = {sweep.label: sweep for sweep in sweeps(c)}
        closed_form = Sweep("pearl", "pearl", {"gamma": (c,)})
        methods = closed_form, own["specbranch"], own["bestfirst 8/32"]
        for index, task in enumerate(TASKS):
            alignment = alignment_of(pair, index)
            gains = [cell(cells, each, c, alignment, TABLE_TOKENS)["speedup"] for each in methods]
            pearl, branch, first = (f"{gain:.2f}" for gain in gains)
            told = (str(published[name][index]) for name in ("pearl", "specbranch"))
            of_pearl, of_branch = told
            name = f"{pair}, {c}"
            yield [name, task, f"{alignment:.2f}", of_pearl, pearl, of_branch, branch, first]


def draw(grid: Grid, figure_name: str) -> Figure:
    """A map of every method over c and alignment; bright is good."""
    ratios, alignments = (sorted(set(axis)) for axis in zip(*grid, strict=True))
    labels = list(next(iter(grid.values())))
    reverse = figure_name == "rollback_rate"
    highest = max(of[figure_name] for methods in grid.values() for of in methods.values())
    shown: dict[str, Any] = {"origin": "lower", "aspect": "auto", "vmin": 0, "vmax": highest}
    shown["cmap"] = "viridis_r" if reverse else "viridis"
    figure = Figure(figsize=(11, 5.5), layout="constrained")
    panels = figure.subplots(2, -(-len(labels) // 2), sharex=True, sharey=True).flat
    for panel, label in zip(panels, labels, strict=False):
        values = [[grid[c, a][label][figure_name] for c in ratios] for a in alignments]
        panel.imshow(values, **shown)
        for row, of_alignment in enumerate(values):
            for column, value in enumerate(of_alignment):
                shade = "black" if (value > 0.6 * highest) is not reverse else "white"
                place = {"ha": "center", "va": "center", "fontsize": 6, "color": shade}
                panel.text(column, row, f"{value:.2f}", **place)
        panel.set_title(label, fontsize=8)
        panel.set_xticks(range(len(ratios)), ratios, fontsize=7)
        panel.set_yticks(range(len(alignments)), alignments, fontsize=7)
        panel.set_xlabel("c", fontsize=7)
        panel.set_ylabel("alignment", fontsize=7)
    figure.suptitle(f"{TITLES[figure_name]}, synthetic acceptance, rows free", fontsize=9)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ratios", nargs="*", type=int, default=RATIOS, help="c")
    parser.add_argument("--alignments", nargs="*", type=float, default=ALIGNMENTS)
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="folder")
    options = parser.parse_args()
    cells = Cells(options.out / "schedule.json")
    with Progress(console=Console(stderr=True)) as bar:
        grid = {
            (c, alignment): {
                sweep.label: cell(cells, sweep, c, alignment, TOKENS) for sweep in sweeps(c)
            }
            for c in bar.track(options.ratios, description="synthetic")
            for alignment in options.alignments
        }
        published = len(PUBLISHED) * len(TASKS)
        rows = list(bar.track(published_rows(cells), description="published", total=published))
    table = [f"# Beside the published table, at {commit()}", "", *markdown.table(COLUMNS, *rows)]
    write_whole(options.out / "schedule.md", "\n".join(table) + "\n")
    for name, picture in (("speedup", "speedup"), ("rollback_rate", "rollback")):
        save_picture(draw(grid, name), options.out / f"schedule-{picture}.png")


if __name__ == "__main__":
    main()
