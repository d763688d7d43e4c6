"""All methods on a pair's recorded texts, each at its best parameters: `python -m bench.pairs`.

The texts are replayed under the virtual clock: the target's decisions are the recorded ones, the
draft's laws are its own, computed where a schedule asks for one that no other has asked for. So
every method writes plain decoding's text, and time is what the cost model says. Parameters are
swept on other prompts than those of the figures. Everything is kept: an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

from bench.methods import MAX_NODES, Variant, sweeps
from bench.options import add_pair
from bench.pairs_report import counts_of, write_report
from bench.prompts import EVALUATION, TUNING
from bench.recordings import TEMPERATURES, Case, Recordings, cases
from specbranch.costs.model import CostModel, LaneCosts, RowCosts
from specbranch.files import write_whole
from specbranch.replay import Replayer

RATIOS = (8, 15)

Figures = list[dict[str, Any]]  # a request each


@dataclass(frozen=True, slots=True)
class Setting:
    """What a comparison is made under: the clock, and the temperature of the texts."""

    clock: str
    c: int
    costs: CostModel
    temperature: float


def settings(
    calibration: Path | None, ratios: Sequence[int], temperatures: Sequence[float]
) -> list[Setting]:
    """For each c rows free and, if they were measured, at what they cost."""
    clocks = []
    for c in ratios:
        clocks.append((f"c={c}, rows free", c, CostModel.parse(f"virtual:c={c}")))
        if calibration:
            measured = CostModel.parse(f"virtual:{calibration}")
            clocks.append((f"c={c}, rows as measured", c, with_ratio(measured, c)))
    return [Setting(*clock, temperature) for clock in clocks for temperature in temperatures]


def with_ratio(measured: CostModel, c: float) -> CostModel:
    """The measured growth with the rows, for a draft step of one row that takes 1 and a target
    forward of one row that takes c, each on a device of its own."""

    def scaled(costs: RowCosts, seconds: float) -> LaneCosts:
        unit = costs(1) / seconds
        return LaneCosts(RowCosts(costs.rows, tuple(each / unit for each in costs.seconds)))

    return CostModel(
        f"{measured.name}, c={c:g}", scaled(measured.draft.rows, 1), scaled(measured.target.rows, c)
    )


class Comparison:
    """The replays of one pair: a file for each variant and setting, beside the recordings."""

    def __init__(self, recordings: Recordings) -> None:
        self.recordings = recordings

    def figures(self, setting: Setting, variant: Variant, wanted: Sequence[Case]) -> Figures:
        """What each case came to, replayed by one engine in this order if it was not before."""
        path = self._path(setting, variant, wanted)
        if path.is_file():
            return json.loads(path.read_text())["cases"]
        policy = variant.policy()
        replayer = Replayer(policy, setting.costs, max_nodes=MAX_NODES)
        figures = [self._replayed(replayer, variant, case) for case in wanted]
        write_whole(path, json.dumps({"variant": variant.key, "cases": figures}))
        return figures

    def _replayed(self, replayer: Replayer, variant: Variant, case: Case) -> dict[str, Any]:
        laws = self.recordings.laws(case)
        recording = self.recordings.recording(case)
        replay = replayer.replay(recording, laws)
        self.recordings.save(case, laws)
        if replay.token_ids != list(recording.text):
            raise RuntimeError(f"{case.name}: {replayer.policy.name} wrote another text")
        return {"prompts": case.prompts, "index": case.index, **counts_of(replay.stats)}

    def _path(self, setting: Setting, variant: Variant, wanted: Sequence[Case]) -> Path:
        costs = setting.costs
        shapes_it = [costs.draft, costs.target, costs.launch, costs.sync, variant, MAX_NODES]
        digest = hashlib.sha256(repr(shapes_it).encode()).hexdigest()[:12]
        folder = f"T{setting.temperature:g}-prompts-{wanted[0].index}-{wanted[-1].index}"
        name = f"c{setting.c}-{variant.label.replace('/', '-')}-{digest}.json"
        return self.recordings.folder / folder / name


def speedup(figures: Figures, baseline: Figures) -> float:
    """Geometric mean over the requests."""
    pairs = zip(figures, baseline, strict=True)
    return geometric_mean(plain["wall_s"] / each["wall_s"] for each, plain in pairs)


def compare(
    comparison: Comparison,
    setting: Setting,
    tuning: Sequence[Case],
    evaluation: Sequence[Case],
    labels: Sequence[str] | None,
    bar: Progress,
) -> dict[str, Any]:
    """The methods of these labels, or all, each at its best under one setting."""
    ar, *methods = sweeps(setting.c)
    if labels is not None:
        methods = [sweep for sweep in methods if sweep.label in labels]
    plain = Variant(ar.label, ar.method)
    tuned = comparison.figures(setting, plain, tuning)
    baseline = comparison.figures(setting, plain, evaluation)
    rows = [{"label": plain.label, "parameters": "-", "cases": baseline, "swept": {}}]
    for sweep in bar.track(methods, description=f"{setting.clock}, T={setting.temperature:g}"):
        swept = {
            variant: speedup(comparison.figures(setting, variant, tuning), tuned)
            for variant in sweep.variants()
        }
        best = max(swept, key=lambda variant: swept[variant])
        rows.append(
            {
                "label": best.label,
                "parameters": best.parameters(),
                "cases": comparison.figures(setting, best, evaluation),
                "swept": {each.parameters(): speed for each, speed in swept.items()},
            }
        )
    return {
        "clock": setting.clock,
        "c": setting.c,
        "temperature": setting.temperature,
        "methods": rows,
    }


def _ratio(text: str) -> int:
    if int(text) < 2:
        raise argparse.ArgumentTypeError(f"expected an integer >= 2, got {text}")
    return int(text)


def _prompts(text: str) -> int:
    if not 1 <= int(text) <= EVALUATION:
        raise argparse.ArgumentTypeError(f"expected 1 to {EVALUATION}, got {text}")
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_pair(parser)
    parser.add_argument("--name", required=True, help="of the pair's results")
    parser.add_argument("--costs", type=Path, help="what `specbranch calibrate` wrote for the pair")
    labels = [sweep.label for sweep in sweeps(RATIOS[0])]
    parser.add_argument("--methods", nargs="+", choices=labels, help="all by default")
    parser.add_argument("--ratios", type=_ratio, nargs="+", default=RATIOS, help="c")
    parser.add_argument("--temperatures", type=float, nargs="+", default=TEMPERATURES)
    parser.add_argument("--prompts", type=_prompts, default=EVALUATION, help="of each set")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="folder")
    options = parser.parse_args()
    torch.set_num_threads(1)
    recordings = Recordings(options.target, options.draft)
    comparison = Comparison(recordings)
    wanted = settings(options.costs, options.ratios, options.temperatures)
    pair = {"name": options.name, "target": options.target, "draft": options.draft}
    results = []
    with Progress(console=Console(stderr=True)) as bar:
        for setting in wanted:
            tuning = cases(*TUNING, [setting.temperature])
            evaluation = cases(0, options.prompts, [setting.temperature])
            results.append(compare(comparison, setting, tuning, evaluation, options.methods, bar))
            write_report(options.out, pair, results)


if __name__ == "__main__":
    main()
