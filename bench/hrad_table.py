"""What H-RAD is worth on prompts it has not seen: `python -m bench.hrad_table FOLDER...`.

For each folder of `hrad collect`, over several splits by prompt: the accuracy and the per-class
precision and recall of H-RAD and of its rivals on held-out prompts; how well each tells apart the
blocks of which nothing, and of which everything, is accepted, whatever the threshold (area under
the ROC curve); and for each task the accuracy of a classifier that was trained on all tasks beside
that of one trained on the other two only.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from bench import markdown
from bench.hrad_prompts import TASKS
from specbranch.files import write_whole
from specbranch.hrad.collection import Collection, PromptExamples
from specbranch.hrad.model import CLASSES, OutlookClassifier
from specbranch.hrad.scores import Scores, score_all, scores
from specbranch.hrad.train import (
    EVERYTHING,
    NOTHING,
    Examples,
    Split,
    TrainingOptions,
    config_for,
    fit,
    pooled,
    split_by_prompt,
)

SPLITS = 3

Train = Callable[[Sequence[PromptExamples], Sequence[PromptExamples]], OutlookClassifier]


def measure(folder: Path, gamma: int, splits: int) -> dict[str, Any]:
    """The figures of one pair, sums over all splits."""
    collection = Collection(folder)
    config = config_for(collection.settings, gamma)
    prompts = collection.load()

    def train(
        training: Sequence[PromptExamples], validation: Sequence[PromptExamples]
    ) -> OutlookClassifier:
        return fit(pooled(training, gamma), pooled(validation, gamma), config, TrainingOptions())

    by_name: list[dict[str, Scores]] = []
    areas: list[dict[str, dict[str, float]]] = []
    transfers: list[dict[str, dict[str, float]]] = []
    for seed in track(range(splits), str(folder), console=Console(stderr=True)):
        split = split_by_prompt(prompts, seed)
        everywhere = train(split.training, split.validation)
        examples = pooled(split.training, gamma), pooled(split.held_out, gamma)
        by_name.append(score_all(everywhere, *examples))
        areas.append(roc_areas(everywhere, examples[1]))
        transfers.append(transfer(split, gamma, everywhere, train))
    return {
        "pair": [config.target, config.draft],
        "gamma": gamma,
        "prompts": len(prompts),
        "splits": splits,
        "frequencies": pooled(prompts, gamma).classes.bincount(minlength=3).tolist(),
        "scores": {name: summed([each[name] for each in by_name]) for name in by_name[0]},
        "roc_area": mean_of(areas),
        "cross_task": mean_of(transfers),
    }


def mean_of(parts: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, float | None]]:
    """None where a part has none."""
    return {
        row: {column: known(fmean(part[row][column] for part in parts)) for column in columns}
        for row, columns in parts[0].items()
    }


def roc_areas(classifier: OutlookClassifier, held_out: Examples) -> dict[str, dict[str, float]]:
    """For confidence alone and H-RAD: the chance that a block of the class ranks before another."""
    chances = classifier.chances(held_out.inputs)
    scores_by_name = {
        "confidence alone": (-held_out.max_prob[:, 0], held_out.max_prob.amin(dim=1)),
        "H-RAD": (chances[:, NOTHING], chances[:, EVERYTHING]),
    }
    return {
        name: {
            "nothing": roc_area(nothing, held_out.classes == NOTHING),
            "everything": roc_area(everything, held_out.classes == EVERYTHING),
        }
        for name, (nothing, everything) in scores_by_name.items()
    }


def roc_area(scores: Tensor, positive: Tensor) -> float:
    """Ties count half; NaN where there is one class only."""
    others = scores[~positive].sort().values
    below = torch.searchsorted(others, scores[positive])
    up_to = torch.searchsorted(others, scores[positive], right=True)
    return ((below + up_to).float().mean() / 2 / len(others)).item()


def transfer(
    split: Split, gamma: int, everywhere: OutlookClassifier, train: Train
) -> dict[str, dict[str, float]]:
    """Accuracy on each task's held-out prompts, with and without that task in training."""
    found = {}
    for task in TASKS:
        others = [[p for p in side if p.category != task] for side in split[:2]]
        held_out = pooled([p for p in split.held_out if p.category == task], gamma)
        accuracies = (
            scores(classifier.chances(held_out.inputs).argmax(dim=1), held_out.classes).accuracy
            for classifier in (everywhere, train(*others))
        )
        found[task] = dict(zip(("trained on all", "on the others"), accuracies, strict=True))
    return found


def summed(parts: Sequence[Scores]) -> dict[str, Any]:
    total = Scores(sum((part.confusion for part in parts), torch.zeros(3, 3, dtype=torch.int64)))
    return {
        "accuracy": total.accuracy,
        "by_split": [part.accuracy for part in parts],
        "precision": by_class(total.precision),
        "recall": by_class(total.recall),
        "confusion": total.confusion.tolist(),
    }


def by_class(shares: Sequence[float]) -> dict[str, float | None]:
    """None for a share of nothing."""
    return dict(zip(CLASSES, map(known, shares), strict=True))


def known(figure: float) -> float | None:
    return None if math.isnan(figure) else figure


def lines(figures: dict[str, Any]) -> list[str]:
    """The tables, in Markdown."""
    target, draft = figures["pair"]
    shares = [count / sum(figures["frequencies"]) for count in figures["frequencies"]]
    about = (
        f"{target} and {draft}, gamma {figures['gamma']}, {figures['prompts']} prompts, "
        f"{figures['splits']} splits; "
        + ", ".join(f"{name} {share:.0%}" for name, share in zip(CLASSES, shares, strict=True))
    )
    scores = [
        [
            name,
            f"{each['accuracy']:.1%}",
            f"{min(each['by_split']):.1%}, {max(each['by_split']):.1%}",
            *(f"{percent(each['precision'][c])} / {percent(each['recall'][c])}" for c in CLASSES),
        ]
        for name, each in figures["scores"].items()
    ]
    areas = [
        [name, area(each["nothing"]), area(each["everything"])]
        for name, each in figures["roc_area"].items()
    ]
    cross_task = {task: tuple(each.values()) for task, each in figures["cross_task"].items()}
    tasks = [
        [task, *(f"{share:.1%}" for share in (everywhere, others, everywhere - others))]
        for task, (everywhere, others) in cross_task.items()
    ]
    return [
        about,
        "",
        *markdown.table(("predictor", "accuracy", "least, most of a split", *CLASSES), *scores),
        "",
        *markdown.table(("area under the ROC curve", "nothing", "everything"), *areas),
        "",
        *markdown.table(("task", "trained on all", "on the others", "drop"), *tasks),
        "",
    ]


def area(found: float | None) -> str:
    return "-" if found is None else f"{found:.3f}"


def percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--gamma", type=int, default=8)
    parser.add_argument("--splits", type=int, default=SPLITS)
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = [measure(folder, options.gamma, options.splits) for folder in options.folders]
    for figures in results:
        print("\n".join(lines(figures)))
    if options.out:
        write_whole(options.out, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
