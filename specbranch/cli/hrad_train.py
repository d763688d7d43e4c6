"""What `specbranch hrad train` shows: a progress bar, a table of scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from specbranch.hrad.model import CLASSES, HRadConfig, OutlookClassifier
from specbranch.training.hrad.scores import Scores
from specbranch.training.hrad.train import Examples, Split, TrainingOptions, fit


def fit_with_progress(
    training: Examples, validation: Examples, config: HRadConfig, options: TrainingOptions
) -> OutlookClassifier:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("training", total=2 * options.epochs)
        return fit(
            training,
            validation,
            config,
            options,
            lambda epoch, loss: bar.update(
                task, advance=1, description=f"validation loss {loss:.3f}"
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


def sides_line(split: Split, sides: Sequence[Examples]) -> str:
    """How many prompts and examples each side of the split has."""
    uses = ("for training", "to stop by", "held out")
    return ", ".join(
        f"{len(prompts)} prompts ({len(examples.classes)} examples) {use}"
        for use, prompts, examples in zip(uses, split, sides, strict=True)
    )


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{share:.0%}"
