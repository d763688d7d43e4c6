"""Scores of predictors of the three classes, and the two that H-RAD must beat."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from specbranch.hrad.model import CLASSES, OutlookClassifier
from specbranch.training.hrad.train import EVERYTHING, NOTHING, SOME, Examples

THRESHOLDS = 50  # quantiles of the confidence that are tried


@dataclass(frozen=True, slots=True)
class Scores:
    """confusion: examples by [true class, predicted class]."""

    confusion: Tensor  # int64 [classes, classes]

    @property
    def accuracy(self) -> float:
        return (self.confusion.diagonal().sum() / self.confusion.sum()).item()

    @property
    def precision(self) -> list[float]:
        """Of each class: the share of its predictions that is right, NaN without any."""
        return (self.confusion.diagonal() / self.confusion.sum(dim=0)).tolist()

    @property
    def recall(self) -> list[float]:
        """Of each class: the share of its examples that is found, NaN without any."""
        return (self.confusion.diagonal() / self.confusion.sum(dim=1)).tolist()


def scores(predicted: Tensor, classes: Tensor) -> Scores:
    """Score predictions int64 [n] against what came."""
    cells = (classes * len(CLASSES) + predicted).bincount(minlength=len(CLASSES) ** 2)
    return Scores(cells.view(len(CLASSES), len(CLASSES)))


@dataclass(frozen=True, slots=True)
class ConfidenceRule:
    """Judges a block by the draft's confidence along it, as a policy without H-RAD can.

    Nothing will hold if the first guess's max_prob is below `first`; everything will if none of
    the block's is below `least`.
    """

    first: float
    least: float

    @classmethod
    def fit(cls, examples: Examples) -> ConfidenceRule:
        """The pair of thresholds that is right most often."""
        quantiles = torch.linspace(0, 1, THRESHOLDS)
        beyond = torch.tensor([float("inf")])
        firsts = examples.max_prob[:, 0].quantile(quantiles)
        leasts = torch.cat([examples.max_prob.amin(dim=1).quantile(quantiles), beyond])
        rules = (cls(first, least) for first in firsts.tolist() for least in leasts.tolist())
        return max(rules, key=lambda rule: (rule(examples) == examples.classes).sum().item())

    def __call__(self, examples: Examples) -> Tensor:
        """Classes int64 [n]."""
        sure = examples.max_prob.amin(dim=1) >= self.least
        classes = torch.where(sure, EVERYTHING, SOME)
        return classes.masked_fill(examples.max_prob[:, 0] < self.first, NOTHING)


def majority(training: Examples, examples: Examples) -> Tensor:
    """The class most frequent in training, for every example."""
    return torch.full_like(examples.classes, int(training.classes.bincount().argmax()))


def score_all(
    classifier: OutlookClassifier, training: Examples, held_out: Examples
) -> dict[str, Scores]:
    """H-RAD and its rivals, each fitted on `training`, on the held-out examples."""
    confidence = ConfidenceRule.fit(training)
    predictions = {
        "majority class": majority(training, held_out),
        "confidence alone": confidence(held_out),
        "H-RAD": classifier.chances(held_out.inputs, held_out.block).argmax(dim=1),
    }
    return {name: scores(each, held_out.classes) for name, each in predictions.items()}
