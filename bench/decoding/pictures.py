"""Pictures of the figures, and of one request's lanes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from bench.decoding.report import Report
from specbranch.comparison.baseline import BASELINE
from specbranch.generation import Generation
from specbranch.pictures import method_color
from specbranch.timeline import save_timeline, steady_window

WINDOW = 12  # target forwards


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
