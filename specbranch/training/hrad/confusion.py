"""Confusion matrices, drawn."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from specbranch.hrad.model import CLASSES
from specbranch.pictures import save_picture
from specbranch.training.hrad.scores import Scores


def save_confusion(by_name: dict[str, Scores], path: str | Path) -> None:
    """Draw each predictor's confusion matrix, rows normalised, to a picture (.png, .svg)."""
    figure = Figure(figsize=(3.6 * len(by_name), 3.6), layout="constrained")
    for axes, (name, each) in zip(
        figure.subplots(1, len(by_name), squeeze=False)[0], by_name.items(), strict=True
    ):
        shares = each.confusion / each.confusion.sum(dim=1, keepdim=True).clamp(min=1)
        axes.imshow(shares.numpy(), vmin=0, vmax=1, cmap="Blues")
        for row in range(len(CLASSES)):
            for column in range(len(CLASSES)):
                share = float(shares[row, column])
                axes.text(
                    column,
                    row,
                    f"{share:.0%}\n{int(each.confusion[row, column])}",
                    ha="center",
                    va="center",
                    color="white" if share > 0.5 else "black",
                )
        axes.set_xticks(range(len(CLASSES)), CLASSES)
        axes.set_yticks(range(len(CLASSES)), CLASSES, rotation=90, va="center")
        axes.set_title(f"{name}: {each.accuracy:.1%} right", fontsize=10)
        axes.set_xlabel("predicted")
    figure.axes[0].set_ylabel("accepted of the next block")
    save_picture(figure, path)
