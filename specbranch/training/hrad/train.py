"""Training the classifier, and what it is worth on prompts that it has not seen."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from specbranch.hrad.model import CLASSES, HRadConfig, OutlookClassifier
from specbranch.training.hrad.collection import PromptExamples, Settings

NOTHING, SOME, EVERYTHING = range(len(CLASSES))
HELD_OUT, VALIDATION = 2, 1  # of every ten prompts


class Split(NamedTuple):
    """Prompts, never tokens of one prompt, on different sides."""

    training: list[PromptExamples]
    validation: list[PromptExamples]  # says when to stop
    held_out: list[PromptExamples]  # says what it is worth


class Examples(NamedTuple):
    """The examples of many prompts."""

    inputs: Tensor  # float32 [n, num_inputs]
    classes: Tensor  # int64 [n]
    block: Tensor  # float32 [n, gamma, 2]

    @property
    def max_prob(self) -> Tensor:
        """[n, gamma]"""
        return self.block[..., 0]


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """How to train; the defaults are the paper's where it tells."""

    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 3e-4
    weight_decay: float = 0.01
    patience: int = 4  # epochs without a better validation loss before it ends
    seed: int = 0


def split_by_prompt(prompts: Sequence[PromptExamples], seed: int) -> Split:
    """A random split, with each category on every side as far as there are prompts of it.

    Raises ValueError if a side would be empty.
    """
    shuffled = list(prompts)
    random.Random(seed).shuffle(shuffled)
    split = Split([], [], [])
    for place, prompt in enumerate(sorted(shuffled, key=lambda prompt: prompt.category)):
        if place % 10 < HELD_OUT:
            split.held_out.append(prompt)
        elif place % 10 < HELD_OUT + VALIDATION:
            split.validation.append(prompt)
        else:
            split.training.append(prompt)
    if not all(split):
        raise ValueError(f"data: expected at least 4 prompts, got {len(shuffled)}")
    return split


def pooled(prompts: Sequence[PromptExamples], gamma: int) -> Examples:
    """The examples of all prompts, for blocks of gamma guesses, as many as collected or fewer."""
    accepted = torch.cat([prompt.accepted for prompt in prompts])
    return Examples(
        torch.cat([prompt.inputs for prompt in prompts]).float(),
        torch.full_like(accepted, SOME)
        .masked_fill(accepted == 0, NOTHING)
        .masked_fill(accepted >= gamma, EVERYTHING),
        torch.cat([prompt.block for prompt in prompts])[:, :gamma],
    )


def fit(
    training: Examples,
    validation: Examples,
    config: HRadConfig,
    options: TrainingOptions,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> OutlookClassifier:
    """Train a classifier with cross-entropy and class weights, and keep its best epoch.

    What looks at the block comes first, then what looks at the target, which can so but add to it.
    Every class weighs as much as any other; the chances that it gives are at the training
    examples' own frequencies again.

    on_epoch: told each epoch's number, from 1 on for either part, and its validation loss (nats
    per example).

    Raises ValueError for fewer than two examples to train with, or none to validate with.
    """
    for name, examples, least in (("training", training, 2), ("validation", validation, 1)):
        if len(examples.classes) < least:
            raise ValueError(
                f"{name}: expected at least {least} examples, got {len(examples.classes)}"
            )
    torch.manual_seed(options.seed)
    classifier = OutlookClassifier(config)
    counts = training.classes.bincount(minlength=len(CLASSES)).float()
    classifier.mean.copy_(training.inputs.mean(dim=0))
    classifier.std.copy_(training.inputs.std(dim=0).clamp(min=1e-6))
    classifier.log_prior.copy_((counts / counts.sum()).clamp(min=1e-6).log())
    weight = counts.sum() / (len(CLASSES) * counts.clamp(min=1))
    best, best_loss = classifier, float("inf")
    for part in ("of_block", "of_target"):
        classifier, best_epoch = copy.deepcopy(best), 0
        trained = classifier.get_submodule(part).parameters()
        optimizer = torch.optim.AdamW(
            trained, lr=options.learning_rate, weight_decay=options.weight_decay
        )
        for epoch in range(1, options.epochs + 1):
            _train(classifier, optimizer, training, weight, options.batch_size)
            loss = log_loss(classifier, validation)
            on_epoch(epoch, loss)
            if loss < best_loss:
                best, best_loss, best_epoch = copy.deepcopy(classifier), loss, epoch
            if epoch - best_epoch >= options.patience:
                break
    return best.eval()


def _train(
    classifier: OutlookClassifier,
    optimizer: torch.optim.Optimizer,
    training: Examples,
    weight: Tensor,
    batch_size: int,
) -> None:
    """One epoch. Half of the blocks are whole, of the others the draft has less, as in the loop."""
    classifier.train()
    gamma = training.block.shape[1]
    for batch in torch.randperm(len(training.classes)).split(batch_size):
        drafted = torch.arange(gamma) < torch.randint(2 * gamma, (len(batch), 1))
        logits = classifier(training.inputs[batch], training.block[batch] * drafted[..., None])
        loss = F.cross_entropy(logits, training.classes[batch], weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def log_loss(classifier: OutlookClassifier, examples: Examples) -> float:
    """Mean of minus the logarithm of the chance given to what came, in nats."""
    chances = classifier.eval().chances(examples.inputs, examples.block)
    return F.nll_loss(chances.clamp(min=1e-9).log(), examples.classes).item()


def config_for(settings: Settings, gamma: int | None) -> HRadConfig:
    """What a classifier trained on a collection is for.

    gamma: guesses of a block, by default those collected. Raises ValueError if there are fewer.
    """
    gamma = settings.gamma if gamma is None else gamma
    if not 1 <= gamma <= settings.gamma:
        raise ValueError(f"gamma: expected 1 to the collection's {settings.gamma}, got {gamma}")
    return HRadConfig(
        settings.target, settings.draft, gamma, settings.feature_layers, settings.hidden_size
    )
