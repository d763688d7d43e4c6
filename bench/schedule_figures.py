"""Pictures of `bench.schedule`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from specbranch.pictures import method_color, save_picture

Cells = Mapping[str, Mapping[str, Any]]  # a method each
TITLES = {"speedup": "speedup over plain decoding", "rollback_rate": "rollback rate, main line"}


def draw_heatmaps(grid: Mapping[tuple[int, float], Cells], figure_name: str, path: Path) -> None:
    """One figure of every method over c and alignment."""
    ratios, alignments = (sorted(set(axis)) for axis in zip(*grid, strict=True))
    labels = list(next(iter(grid.values())))
    values = {
        label: [[grid[c, a][label][figure_name] for c in ratios] for a in alignments]
        for label in labels
    }
    reverse = figure_name == "rollback_rate"  # bright is good in both
    colors = "viridis_r" if reverse else "viridis"
    highest = max(max(map(max, rows)) for rows in values.values())
    figure = Figure(figsize=(11, 5.5), layout="constrained")
    panels = list(figure.subplots(2, -(-len(labels) // 2), sharex=True, sharey=True).flat)
    for panel in panels:
        panel.set_visible(False)
    for panel, label in zip(panels, labels, strict=False):
        panel.set_visible(True)
        panel.imshow(
            values[label], origin="lower", aspect="auto", vmin=0, vmax=highest, cmap=colors
        )
        for row, of_alignment in enumerate(values[label]):
            for column, value in enumerate(of_alignment):
                shade = "black" if (value > 0.6 * highest) is not reverse else "white"
                panel.text(
                    column, row, f"{value:.2f}", ha="center", va="center", fontsize=6, color=shade
                )
        panel.set_title(label, fontsize=8)
        panel.set_xticks(range(len(ratios)), ratios, fontsize=7)
        panel.set_yticks(range(len(alignments)), alignments, fontsize=7)
        panel.set_xlabel("c", fontsize=7)
        panel.set_ylabel("alignment", fontsize=7)
    figure.suptitle(f"{TITLES[figure_name]}, synthetic acceptance, rows free", fontsize=9)
    save_picture(figure, path)


def draw_lines(
    grid: Mapping[tuple[int, float], Cells],
    pairs: Mapping[str, Mapping[int, Cells]],
    path: Path,
) -> None:
    """Speedup over c: three synthetic alignments, then each recorded pair."""
    ratios, alignments = (sorted(set(axis)) for axis in zip(*grid, strict=True))
    chosen = sorted({alignments[0], alignments[len(alignments) // 2], alignments[-1]})
    drawn: dict[str, Mapping[int, Cells]] = {
        f"synthetic, alignment {a}": {c: grid[c, a] for c in ratios} for a in chosen
    }
    drawn |= {f"real tokens, draft {draft}": by_ratio for draft, by_ratio in pairs.items()}
    rows = -(-len(drawn) // 3)
    figure = Figure(figsize=(10, 2.9 * rows), layout="constrained")
    panels = list(figure.subplots(rows, 3, squeeze=False).flat)
    for panel, (title, by_ratio) in zip(panels, drawn.items(), strict=False):
        _draw_speedups(panel, title, by_ratio)
    for panel in panels[len(drawn) :]:
        panel.set_visible(False)
    lines, labels = panels[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    save_picture(figure, path)


def _draw_speedups(panel: Axes, title: str, by_ratio: Mapping[int, Cells]) -> None:
    ratios = sorted(by_ratio)
    for label in by_ratio[ratios[0]]:
        speedups = [by_ratio[c][label]["speedup"] for c in ratios]
        color = method_color(label)
        panel.plot(ratios, speedups, marker=".", linewidth=1, label=label, color=color)
    panel.set_title(title, fontsize=8)
    panel.set_xlabel("c", fontsize=7)
    panel.set_ylabel("speedup", fontsize=7)
    panel.tick_params(labelsize=7)
    panel.spines[["top", "right"]].set_visible(False)
