"""H-RAD as a prior for best-first growth: `python -m bench.hrad_prior --data FOLDER`.

The classifier's chance that the draft's first guess is wrong, against how often it is wrong, scales
the odds that best-first growth has for it. Replayed greedily on recorded texts that the classifier
was not trained on, virtual clock, rows free; speedup over plain decoding, geometric mean.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from bench.contenders import MAX_NODES
from bench.hrad_prompts import SWEEPS
from bench.hrad_sweep import RATIOS, Texts
from specbranch.costs.model import CostModel
from specbranch.files import write_whole
from specbranch.hrad.train import NOTHING
from specbranch.policies import BestFirst
from specbranch.policies.base import Outcome, Outlook
from specbranch.replay import Replayer
from specbranch.tree import SpeculationTree

GAMMA = 8  # guesses of the block that the classifier speaks of
ROWS = ((4, 8), (8, 32))
WEIGHTS = (0.0, 0.25, 0.5, 1.0)  # of the classifier's evidence, beside the draft's own


class WithPrior(BestFirst):
    """Best-first growth that believes the classifier about the guesses at the root.

    weight: exponent of the evidence; 0 is best-first growth as it is.
    rate: share of first guesses that are wrong.
    """

    reads_outlook = True

    def __init__(self, rows_draft: int, rows_target: int, weight: float, rate: float) -> None:
        super().__init__(rows_draft, rows_target)
        self._weight = weight
        self._usual_odds = rate / (1 - rate)

    def begin(self) -> None:
        super().begin()
        self._evidence: float | None = None

    def observe(self, outcome: Outcome) -> None:
        super().observe(outcome)
        self._evidence = None
        if outcome.outlook:
            odds = outcome.outlook.nothing / max(1 - outcome.outlook.nothing, 1e-6)
            self._evidence = (odds / self._usual_odds) ** self._weight

    def grow(self, tree: SpeculationTree, busy: bool, step: int) -> Sequence[Any]:
        if self._evidence is not None and tree.root.children:
            reweigh(tree, self._evidence)
            self._evidence = self._frontier = None
        return super().grow(tree, busy, step)


def reweigh(tree: SpeculationTree, evidence: float) -> None:
    """Multiply the odds that the root's first guess is wrong; the others share what that leaves."""
    first, *others = tree.root.children
    right = min(max(first.estimate, 1e-6), 1 - 1e-6)
    believed = right / (right + (1 - right) * evidence)
    for child, factor in [(first, believed / right)] + [
        (other, (1 - believed) / (1 - right)) for other in others
    ]:
        for node in child.walk():
            node.estimate *= factor


def speedup(
    texts: Texts, policy: BestFirst, c: int, outlooks: Sequence[Sequence[Outlook]]
) -> float:
    replayer = Replayer(policy, CostModel.parse(f"virtual:c={c}"), max_nodes=MAX_NODES)
    runs = [
        replayer.replay(recording, laws, outlook).stats
        for recording, laws, outlook in zip(texts.recordings, texts.laws, outlooks, strict=True)
    ]
    texts.save_laws()
    return geometric_mean(c * run.tokens / run.wall_s for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of `hrad collect`")
    parser.add_argument("--prompts", type=int, default=SWEEPS, help="prompts of each set")
    parser.add_argument("--out", type=Path, required=True, help="JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    texts = Texts(options.data, options.prompts)
    outlooks, examples = texts.outlooks(GAMMA)
    rate = float((examples.classes == NOTHING).float().mean())
    grid = list(itertools.product(RATIOS, ROWS, WEIGHTS))
    results = []
    for c, rows, weight in track(grid, "replaying", console=Console(stderr=True)):
        found = speedup(texts, WithPrior(*rows, weight, rate), c, outlooks)
        results.append({"c": c, "rows": rows, "weight": weight, "speedup": found})
        print(f"c {c}, rows {rows[0]}/{rows[1]}, weight {weight:g}: {found:.3f}x")
    write_whole(options.out, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
