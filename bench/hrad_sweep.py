"""SpecBranch's parameters, with H-RAD and without: `python -m bench.hrad_sweep --data FOLDER`.

Trains a classifier for every gamma on the folder of `hrad collect`, replays SpecBranch greedily on
recorded texts of other prompts, with every combination of gamma, epsilon and k_max, and draws the
speedup over plain decoding (geometric mean, virtual clock, rows free) and the rollback rate.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from statistics import geometric_mean

import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from torch import Tensor

from bench.contenders import MAX_NODES
from bench.hrad_prompts import SWEEPS
from bench.prompts import EVALUATION
from bench.recordings import MAX_LEN, Recordings, cases
from specbranch.costs.model import CostModel
from specbranch.files import write_whole
from specbranch.hrad.collection import Collection
from specbranch.hrad.features import FEATURE_LAYERS, text_features
from specbranch.hrad.model import HRad
from specbranch.hrad.train import (
    Examples,
    TrainingOptions,
    config_for,
    fit,
    pooled,
    split_by_prompt,
)
from specbranch.models.runner import ModelRunner
from specbranch.pictures import save_picture
from specbranch.policies import SpecBranch
from specbranch.policies.base import Outlook
from specbranch.replay import Replayer

GAMMAS = (4, 8)
EPSILONS = (0.2, 0.4, 0.6, 0.8)
K_MAXES = (3, 6)
RATIOS = (8, 15)


@dataclass(frozen=True, slots=True)
class Point:
    """What one setting came to over all cases."""

    c: int
    gamma: int
    epsilon: float
    k_max: int
    hrad: bool
    speedup: float  # over plain decoding, geometric mean of the cases
    rollback_rate: float  # of all main-line tokens drafted


class Texts:
    """The recorded texts of a pair, and classifiers trained on its collection of other prompts."""

    def __init__(self, data: Path, prompts: int) -> None:
        collection = Collection(data)
        self._settings = collection.settings
        self._split = split_by_prompt(collection.load(), seed=0)
        self._source = Recordings(self._settings.target, self._settings.draft)
        self._cases = cases(EVALUATION, prompts, temperatures=(0.0,))
        self.recordings = [self._source.recording(case) for case in self._cases]
        self.laws = [self._source.laws(case) for case in self._cases]

    def outlooks(self, gamma: int) -> tuple[list[list[Outlook]], Examples]:
        """What a classifier for blocks of gamma expects at each token of each text, and the
        examples that it was trained on."""
        config = config_for(self._settings, gamma)
        training, validation, _ = (pooled(side, gamma) for side in self._split)
        classifier = fit(training, validation, config, TrainingOptions())
        hrad = HRad(classifier, config, self._source.pair)
        found = [
            hrad.outlooks(features, list(recording.text))
            for features, recording in zip(self._features, self.recordings, strict=True)
        ]
        return found, training

    def save_laws(self) -> None:
        for case, laws in zip(self._cases, self.laws, strict=True):
            self._source.save(case, laws)

    @cached_property
    def _features(self) -> list[Tensor]:
        runner = ModelRunner(
            self._source.pair.target,
            max_len=MAX_LEN,
            max_nodes=MAX_NODES,
            feature_layers=FEATURE_LAYERS,
        )
        return [text_features(runner, each.prompt, each.text) for each in self.recordings]


def sweep(texts: Texts) -> Iterator[Point]:
    for gamma in GAMMAS:
        outlooks, _ = texts.outlooks(gamma)
        for c, epsilon, k_max in itertools.product(RATIOS, EPSILONS, K_MAXES):
            for given in (None, outlooks):
                yield point(texts, c, SpecBranch(k_max, gamma, epsilon), given)
        texts.save_laws()


def point(texts: Texts, c: int, policy: SpecBranch, outlooks: list[list[Outlook]] | None) -> Point:
    replayer = Replayer(policy, CostModel.parse(f"virtual:c={c}"), max_nodes=MAX_NODES)
    stats = [
        replayer.replay(text, laws, outlooks and outlooks[index]).stats
        for index, (text, laws) in enumerate(zip(texts.recordings, texts.laws, strict=True))
    ]
    discarded = sum(each.discarded_main for each in stats)
    accepted = sum(each.accepted_main for each in stats)
    return Point(
        c,
        policy.gamma,
        policy.epsilon,
        policy.k_max,
        outlooks is not None,
        geometric_mean(c * each.tokens / each.wall_s for each in stats),
        discarded / (discarded + accepted),
    )


def draw(points: list[Point], path: Path) -> None:
    """Speedup and rollback over epsilon, a line a gamma, at each gamma's best k_max."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.subplots(2, len(RATIOS), squeeze=False, sharex=True)
    for column, c in enumerate(RATIOS):
        for gamma, hrad in itertools.product(GAMMAS, (False, True)):
            of_line = [p for p in points if (p.c, p.gamma, p.hrad) == (c, gamma, hrad)]
            best = [
                max((p for p in of_line if p.epsilon == epsilon), key=lambda p: p.speedup)
                for epsilon in EPSILONS
            ]
            style = {
                "color": f"C{GAMMAS.index(gamma)}",
                "linestyle": "-" if hrad else "--",
                "marker": ".",
                "label": f"gamma {gamma}, {'H-RAD' if hrad else 'confidence alone'}",
            }
            axes[0][column].plot(EPSILONS, [p.speedup for p in best], **style)
            axes[1][column].plot(EPSILONS, [p.rollback_rate for p in best], **style)
        axes[0][column].set_title(f"c = {c}, rows free")
        axes[1][column].set_xlabel("epsilon")
    axes[0][0].set_ylabel("speedup")
    axes[1][0].set_ylabel("rollback rate")
    axes[0][-1].legend(fontsize=7)
    save_picture(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of `hrad collect`")
    parser.add_argument("--out", type=Path, required=True, help="JSON; a .png goes beside it")
    parser.add_argument("--prompts", type=int, default=SWEEPS, help="prompts of each set")
    options = parser.parse_args()
    torch.set_num_threads(1)
    texts = Texts(options.data, options.prompts)
    total = len(GAMMAS) * len(RATIOS) * len(EPSILONS) * len(K_MAXES) * 2
    points = list(track(sweep(texts), "replaying", total, console=Console(stderr=True)))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(options.out, json.dumps([asdict(point) for point in points], indent=1) + "\n")
    draw(points, options.out.with_suffix(".png"))
    for c, hrad in itertools.product(RATIOS, (False, True)):
        best = max((p for p in points if (p.c, p.hrad) == (c, hrad)), key=lambda p: p.speedup)
        print(best)


if __name__ == "__main__":
    main()
