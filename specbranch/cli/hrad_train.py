"""`specbranch hrad train`: a progress bar, a table of scores, a file and a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from specbranch.hrad.collection import Collection
from specbranch.hrad.model import CLASSES, HRadConfig, OutcomeClassifier, save_classifier
from specbranch.hrad.scores import Scores, save_confusion, score_all
from specbranch.hrad.train import (
    Examples,
    TrainingOptions,
    config_for,
    fit,
    pooled,
    split_by_prompt,
)


def train_classifier(
    data: Path, out: Path, gamma: int | None, options: TrainingOptions, picture: Path
) -> None:
    """Run the command."""
    collection = Collection(data)
    config = config_for(collection.settings, gamma)
    split = split_by_prompt(collection.load(), options.seed)
    training, validation, held_out = (pooled(side, config.gamma) for side in split)
    classifier = fit_with_progress(training, validation, config, options)
    by_name = score_all(classifier, training, held_out)
    save_classifier(out, classifier, config)
    save_confusion(by_name, picture)
    console = Console()
    console.print(scores_table(by_name))
    sides = ", ".join(
        f"{len(prompts)} prompts ({len(examples.classes)} examples) {use}"
        for use, prompts, examples in zip(
            ("for training", "to stop by", "held out"),
            split,
            (training, validation, held_out),
            strict=True,
        )
    )
    console.print(f"{sides}; gamma {config.gamma}", style="dim", highlight=False)


def fit_with_progress(
    training: Examples, validation: Examples, config: HRadConfig, options: TrainingOptions
) -> OutcomeClassifier:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("training", total=options.epochs)
        return fit(
            training,
            validation,
            config,
            options,
            lambda epoch, loss: bar.update(
                task, completed=epoch, description=f"validation loss {loss:.3f}"
            ),
        )


def scores_table(by_name: Mapping[str, Scores]) -> Table:
    """Accuracy, and each class's precision / recall, a row for each predictor."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, header_style="bold")
    table.add_column("precision / recall", no_wrap=True)
    for column in ("accuracy", *CLASSES):
        table.add_column(column, justify="right", no_wrap=True)
    for name, scores in by_name.items():
        pairs = zip(scores.precision, scores.recall, strict=True)
        cells = (f"{_percent(precision)} / {_percent(recall)}" for precision, recall in pairs)
        table.add_row(name, f"{scores.accuracy:.1%}", *cells)
    return table


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{share:.0%}"
