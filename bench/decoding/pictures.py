"""Pictures of the figures, and of one request's lanes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from bench.decoding.figures import OVERALL
from bench.decoding.report import Report
from specbranch.comparison.baseline import BASELINE
from specbranch.generation import Generation
from specbranch.pictures import method_color, save_picture
from specbranch.timeline import save_timeline, steady_window

LONGEST = 16  # tokens a forward; more are drawn as so many
WINDOW = 12  # target forwards


def save_pictures(report: Report, folder: Path) -> dict[str, str]:
    """Draw all, and return the file names by what they show."""
    drawn = {
        "Speedup over plain decoding": ("speedup.png", speedups(report)),
        "Tokens that a target forward commits": ("accepted-lengths.png", accepted_lengths(report)),
    }
    for name, figure in drawn.values():
        save_picture(figure, folder / name)
    return {what: name for what, (name, _) in drawn.items()}


def save_lanes(generation: Generation, path: Path) -> None:
    """A stretch from the middle of a request."""
    window = steady_window(generation.trace, WINDOW)
    save_timeline(generation.trace, generation.stats, path, window)


def speedups(report: Report) -> Figure:
    """A group of bars a category, a bar a contender; whiskers from the least repetition to the
    most."""
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    axes = figure.add_subplot()
    names = [name for name in report.table if name != BASELINE]
    width = 0.85 / (len(names) or 1)
    for place, name in enumerate(names):
        scopes = report.table[name]
        present = [
            (at, scopes[each]) for at, each in enumerate(report.categories) if each in scopes
        ]
        heights = np.array([figures.speedup for _, figures in present])
        least = np.array([min(figures.speedups) for _, figures in present])
        most = np.array([max(figures.speedups) for _, figures in present])
        left = [at + (place - (len(names) - 1) / 2) * width for at, _ in present]
        axes.bar(
            left,
            heights,
            width,
            label=name,
            color=method_color(name),
            hatch="//" if "@" in name else None,
            edgecolor="white",
            yerr=np.stack([heights - least, most - heights]),
            error_kw={"elinewidth": 0.8},
        )
        for x, height, top in zip(left, heights, most, strict=True):
            axes.text(x, top + 0.02, f"{height:.2f}", ha="center", va="bottom", fontsize=6)
    axes.axhline(1, color="0.3", linewidth=0.8, linestyle=":")
    axes.set_xticks(range(len(report.categories)), report.categories)
    axes.set_ylabel(f"speedup over {BASELINE}")
    axes.spines[["top", "right"]].set_visible(False)
    if names:
        figure.legend(loc="outside upper center", ncols=len(names), frameon=False, fontsize=8)
    return figure


def accepted_lengths(report: Report) -> Figure:
    """A histogram for each contender that commits more than one token a forward."""
    counts = {name: scopes[OVERALL].accepted_lengths for name, scopes in report.table.items()}
    drafting = {name: each for name, each in counts.items() if set(each) - {1}}
    columns = min(5, max(1, len(drafting)))
    rows = max(1, -(-len(drafting) // columns))
    figure = Figure(figsize=(2.4 * columns, 1.9 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
    for axes in grid:
        axes.set_visible(False)
    for axes, (name, lengths) in zip(grid, drafting.items(), strict=False):
        shares = np.zeros(LONGEST + 1)
        for length, count in lengths.items():
            shares[min(length, LONGEST)] += count
        axes.set_visible(True)
        axes.bar(range(1, LONGEST + 1), shares[1:] / shares.sum(), color=method_color(name))
        axes.set_title(name, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(f"tokens committed by a target forward ({LONGEST}: or more)", fontsize=9)
    figure.supylabel("share of forwards", fontsize=9)
    return figure
