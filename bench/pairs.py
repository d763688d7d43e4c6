"""All methods on a pair's recorded texts, each at its best parameters: `python -m bench.pairs`.

The texts are replayed under the virtual clock: the target's decisions are the recorded ones, the
draft's laws are its own, computed where a schedule asks for one that no other has asked for. So
every method writes plain decoding's text, and time is what the cost model says. Parameters are
swept on other prompts than those of the figures. Everything is kept: an interrupted run goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import geometric_mean
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress

from bench import markdown
from bench.commit import commit
from bench.goals import schedule_goals
from bench.methods import Sweep, sweeps
from bench.options import add_pair
from bench.prompts import EVALUATION, TUNING
from bench.recordings import SETS, TEMPERATURES, Case, Recordings, cases
from bench.replays import Cell, Cells, Requests, best, figures, free, replayed, speedups, with_ratio
from specbranch.costs.model import CostModel
from specbranch.files import write_whole
from specbranch.pictures import method_color, save_picture

RATIOS = (8, 15)
SHARES = {"rollback": "rollback_rate", "all waste": "discarded_rate", "overlap": "overlap"}
HEADER = ("method", "parameters", "speedup", *SETS, "M", "accepted", *SHARES)
HEADER += ("rolled back per token",)


class Setting(NamedTuple):
    """What a comparison is made under: the clock, and the temperature of the texts."""

    clock: str
    c: int
    costs: CostModel
    temperature: float

    def __str__(self) -> str:
        return f"{self.clock}, temperature {self.temperature:g}"


def settings(
    calibration: Path | None, ratios: Sequence[int], temperatures: Sequence[float]
) -> Iterator[Setting]:
    """For each c rows free and, if they were measured, at what they cost."""
    clocks = []
    for c in ratios:
        clocks.append((f"c={c}, rows free", c, free(c)))
        if calibration:
            measured = CostModel.parse(f"virtual:{calibration}")
            clocks.append((f"c={c}, rows as measured", c, with_ratio(measured, c)))
    return (Setting(*clock, temperature) for clock in clocks for temperature in temperatures)


def requests_of(recordings: Recordings, wanted: Sequence[Case]) -> Requests:
    def requests() -> Iterator:
        for case in wanted:
            laws = recordings.laws(case)
            yield recordings.recording(case), laws
            recordings.save(case, laws)

    return requests


def compared(
    recordings: Recordings, setting: Setting, sweep: Sweep, tuning: list[Case], texts: list[Case]
) -> Cell:
    """A method at its best under one setting."""
    costs = setting.costs
    variant = best(sweep, costs, requests_of(recordings, tuning))
    runs = replayed(variant, costs, requests_of(recordings, texts))
    gains = speedups(runs, costs)
    by_set = {
        name: geometric_mean(
            gain for gain, case in zip(gains, texts, strict=True) if case.prompts == name
        )
        for name in SETS
    }
    return {"label": sweep.label, "parameters": variant.parameters(), "by_set": by_set} | figures(
        runs, costs
    )


def report(title: str, about: str, sections: dict[str, list[Cell]]) -> str:
    lines = [f"# {title}", "", f"{about}, at {commit()}."]
    for clock, methods in sections.items():
        lines += ["", f"## {clock}", "", *markdown.table(HEADER, *map(_row, methods))]
        if "free" in clock:
            lines += ["", *(f"- {verdict}" for verdict in schedule_goals(methods))]
    return "\n".join(lines) + "\n"


def _row(method: Cell) -> list[str]:
    gains = (method["speedup"], *method["by_set"].values())
    return [
        method["label"],
        method["parameters"],
        *(f"{gain:.2f}x" for gain in gains),
        f"{method['mean_accepted_length']:.2f}",
        f"{method['acceptance_rate']:.0%}",
        *(f"{method[share]:.0%}" for share in SHARES.values()),
        f"{method['rolled_back_per_token']:.2f}",
    ]


def draw(title: str, sections: dict[str, list[Cell]]) -> Figure:
    rows = (len(sections) + 1) // 2
    figure = Figure(figsize=(11, 2.6 * rows), layout="constrained")
    panels = figure.subplots(rows, 2, squeeze=False, sharex=True).flat
    for panel, (clock, methods) in zip(panels, sections.items(), strict=False):
        labels = [method["label"] for method in methods]
        bars = panel.barh(
            labels, [method["speedup"] for method in methods], color=list(map(method_color, labels))
        )
        panel.bar_label(bars, fmt="%.2f", padding=2, fontsize=7)
        panel.invert_yaxis()
        panel.tick_params(labelsize=7)
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_title(clock, fontsize=8)
        panel.set_xlabel("speedup over plain decoding", fontsize=7)
    figure.suptitle(title, fontsize=9)
    return figure


def _prompts(text: str) -> int:
    if not 1 <= int(text) <= EVALUATION:
        raise argparse.ArgumentTypeError(f"expected 1 to {EVALUATION}, got {text}")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.pairs", description=__doc__)
    add_pair(parser)
    parser.add_argument("--name", required=True, help="of the pair's results")
    parser.add_argument("--costs", type=Path, help="what `specbranch calibrate` wrote for the pair")
    parser.add_argument("--ratios", type=int, nargs="+", default=RATIOS, help="c")
    parser.add_argument("--temperatures", type=float, nargs="+", default=TEMPERATURES)
    parser.add_argument("--prompts", type=_prompts, default=EVALUATION, help="of each set")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="folder")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    recordings = Recordings(options.target, options.draft)
    path = options.out / f"pairs-{options.name}"
    cells = Cells(path.with_suffix(".json"))
    about = f"Target {options.target}, draft {options.draft}; the first {options.prompts} prompts"
    sections: dict[str, list[Cell]] = {}
    with Progress(console=Console(stderr=True)) as bar:
        for setting in settings(options.costs, options.ratios, options.temperatures):
            texts = [
                cases(*which, [setting.temperature]) for which in (TUNING, (0, options.prompts))
            ]
            sections[str(setting)] = [
                cells.cell(
                    f"{about}, {tuple(setting)}, {sweep}",
                    lambda sweep=sweep, of=(setting, texts): compared(
                        recordings, of[0], sweep, *of[1]
                    ),
                )
                for sweep in bar.track(sweeps(setting.c), description=str(setting))
            ]
            written = report(f"Pair: {options.name}", f"{about} of each set", sections)
            write_whole(path.with_suffix(".md"), written)
            save_picture(draw(about, sections), path.with_suffix(".png"))


if __name__ == "__main__":
    main()
