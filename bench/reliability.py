"""How often is a draft right, and as often as it estimates? `python -m bench.reliability`.

Goes through texts of a pair, recorded if they were not before, as decoding would: at every
token the draft's ranked guesses are estimated, then compared with the token, then learnt from.
Draws the share of right guesses over their estimates, the draft's own and the calibrated ones, and
writes both errors beside the picture, with the share of tokens that are the first guess, by kind of
prompt, or among the first four. At temperature 1 guesses are made with the noise that the target
draws with.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bench.commit import commit
from bench.options import add_pair, positive
from bench.prompts import EVALUATION
from bench.recordings import FOLDER, SETS, Case, Recordings, cases
from specbranch._C import Reliability, Tree
from specbranch.files import write_whole
from specbranch.pictures import save_picture
from specbranch.replay import Place

FAN = 8  # guesses of a node
EDGES = np.array([0, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97, 1.0])
SETTINGS = {0.0: "greedy", 1.0: "temperature 1"}
KINDS = ("the draft's own", "calibrated")
AMONG = 4  # first guesses

Guesses = NDArray[np.float64]  # [n, 3]: own estimate, calibrated estimate, 1 if right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_pair(parser)
    parser.add_argument("--prompts", type=positive, default=EVALUATION, help="of each set")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the recordings")
    parser.add_argument("--out", type=Path, default=Path("build/bench/reliability.png"))
    options = parser.parse_args()
    recordings = Recordings(options.target, options.draft, options.folder)
    summary: dict[str, Any] = {"commit": commit(), "target": options.target, "draft": options.draft}
    guesses = {}
    for temperature, name in SETTINGS.items():
        wanted = cases(0, options.prompts, [temperature])
        guesses[temperature], ranks = collect(recordings, wanted)
        summary[name] = {"texts": len(wanted)} | shares(ranks) | errors(guesses[temperature])
    save_picture(draw(guesses, f"{options.draft} for {options.target}"), options.out)
    write_whole(options.out.with_suffix(".json"), json.dumps(summary, indent=1) + "\n")
    print(json.dumps(summary, indent=1))


def collect(recordings: Recordings, wanted: Sequence[Case]) -> tuple[Guesses, dict[str, list[int]]]:
    """Every guess at every token of the texts, and by set of prompts the token's place among them,
    FAN if it is none."""
    reliability = Reliability()
    rows: list[tuple[float, float, bool]] = []
    ranks: dict[str, list[int]] = {name: [] for name in SETS}
    for case in wanted:
        laws, text = recordings.laws(case), recordings.recording(case).text
        found = laws.laws([Place(at) for at in range(len(text))])
        for token, law in zip(text, found, strict=True):
            ids = law.ids[:FAN]
            rows += judged(ids, law.estimates[:FAN], token, reliability)
            ranks[case.prompts].append(ids.index(token) if token in ids else FAN)
        recordings.save(case, laws)
    return np.array(rows), ranks


def shares(ranks: dict[str, list[int]]) -> dict[str, Any]:
    """Of tokens that are the first guess, and that are among the first."""
    every = np.array([rank for of_set in ranks.values() for rank in of_set])
    first = {name: round(float(np.mean(np.equal(of, 0))), 3) for name, of in ranks.items()}
    return {
        "first guess": first | {"all": round(float(np.mean(every == 0)), 3)},
        f"among {AMONG}": round(float(np.mean(every < AMONG)), 3),
        "tokens": len(every),
    }


def judged(
    ids: Sequence[int], estimates: Sequence[float], token: int, reliability: Reliability
) -> list[tuple[float, float, bool]]:
    """A row for each guess at one place, whose right token is then learnt from."""
    tree, certainty = Tree(0), np.zeros(1, np.float32)
    guesses = np.array([ids], np.int32), np.array([estimates], np.float32)
    tree.expand([0], *guesses, certainty, certainty, 0, reliability)
    tree.attach([len(ids)])
    right = next((child for child in tree.children(0) if tree.token[child] == token), -1)
    tree.teach([0], right, reliability)
    columns = tree.prior, tree.estimate, tree.token == token
    return list(zip(*(column[1:].tolist() for column in columns), strict=True))


def errors(guesses: Guesses) -> dict[str, Any]:
    """Log-loss in nats a guess, and the mean distance from the diagonal, weighted by guesses."""
    right = guesses[:, 2]
    figures: dict[str, Any] = {"guesses": len(guesses)}
    for column, kind in enumerate(KINDS):
        chances = guesses[:, column].clip(1e-6, 1 - 1e-6)
        loss = -np.where(right > 0, np.log(chances), np.log1p(-chances)).mean()
        estimated, observed, size = reliability(guesses, column)
        distance = float((abs(estimated - observed) * size).sum() / size.sum())
        figures[kind] = {"log_loss": round(float(loss), 5), "distance": round(distance, 5)}
    return figures


def reliability(guesses: Guesses, column: int) -> tuple[NDArray, NDArray, NDArray]:
    """Mean estimate, share that was right and number of guesses, for each bin that has some."""
    bins = np.digitize(guesses[:, column], EDGES[1:-1])
    size = np.bincount(bins, minlength=len(EDGES) - 1)
    sums = [np.bincount(bins, guesses[:, i], len(EDGES) - 1) for i in (column, 2)]
    some = size > 0
    return sums[0][some] / size[some], sums[1][some] / size[some], size[some]


def draw(guesses: dict[float, Guesses], title: str) -> Figure:
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    panels = figure.subplots(1, len(guesses), sharey=True)
    for panel, (temperature, of) in zip(panels, guesses.items(), strict=True):
        panel.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        for column, kind in enumerate(KINDS):
            estimated, observed, size = reliability(of, column)
            area = 12 + 30 * np.log10(size)
            panel.scatter(estimated, observed, area, label=kind, alpha=0.75, linewidths=0)
            panel.plot(estimated, observed, linewidth=1, alpha=0.5)
        panel.set(title=SETTINGS[temperature], xlabel="estimated chance", aspect="equal")
    panels[0].set_ylabel("share that was right")
    panels[0].legend(frameon=False, loc="upper left")
    figure.suptitle(title)
    return figure


if __name__ == "__main__":
    main()
