"""A training that validates as it goes, keeps the best draft, and can be killed and resumed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from specbranch.files import unfinished
from specbranch.loading.distilled import cut_draft, save_draft
from specbranch.training.distill.batches import Example, read_examples, shuffled_batches
from specbranch.training.distill.corpus import Corpus
from specbranch.training.distill.train import Trainer, TrainOptions
from specbranch.training.distill.validate import Validation, Validator, fit_readout

CHECKPOINT = "checkpoint.pt"
_HELD_OUT = 24  # passages, at most
_FITTED = 32  # batches that the first readout is fitted to, at most


@dataclass(frozen=True, slots=True)
class DraftShape:
    """layers: of the target that the draft begins with. vocab_size: tokens of its head, at most."""

    layers: tuple[int, ...]
    vocab_size: int


@dataclass(frozen=True, slots=True)
class Progress:
    """After a step: its loss, and every so many steps how the draft does on held-out prompts."""

    step: int
    loss: float
    validation: Validation | None


class Distillation:
    """Trains a draft for a target. The best one so far stands in `out`, a checkpoint beside it.

    target: on CPU, in fp32, with plain linear layers. validate_every: steps between validations,
    each of which writes the checkpoint. patience: validations without a better draft to end after.
    validation: the latest. best: the highest agreement so far.
    Raises ValueError for data or a shape that does not fit, or a checkpoint of another shape.
    """

    def __init__(
        self,
        target: PreTrainedModel,
        target_name: str,
        corpus: Corpus,
        shape: DraftShape,
        options: TrainOptions,
        out: Path,
        *,
        validate_every: int,
        patience: int,
    ) -> None:
        examples, held_out = read_examples(corpus)
        state = _read_checkpoint(out, shape)
        token_ids = state["token_ids"] if state else frequent_tokens(examples, target, shape)
        draft = cut_draft(target, shape.layers, token_ids)
        self._target = target
        self._target_name = target_name
        self._shape = shape
        self._out = out
        self._validate_every = validate_every
        self._patience = patience
        self._trainer = Trainer(draft, examples, options)
        self._validator = Validator(target, held_out[:_HELD_OUT], options.length)
        self.best, self._waited = 0.0, 0
        if state:
            self._trainer.resume(state["trainer"])
            self.best, self._waited = state["best"], state["waited"]
            self.validation = self._validator.validate(draft)
        else:
            batches = shuffled_batches(
                examples, rows=options.rows, length=options.length, seed=options.seed
            )
            fit_readout(draft, islice(batches, _FITTED))
            self.validation = self._validate()

    @property
    def step(self) -> int:
        """Steps taken."""
        return self._trainer.step

    def run(self) -> Iterator[Progress]:
        """Train to the end, step by step."""
        trainer = self._trainer
        while trainer.step < trainer.options.steps and self._waited < self._patience:
            loss = trainer.train_step()
            last = trainer.step == trainer.options.steps
            due = last or trainer.step % self._validate_every == 0
            yield Progress(trainer.step, loss, self._validate() if due else None)

    def _validate(self) -> Validation:
        """Validate, keep the draft if it is the best so far, and write the checkpoint."""
        draft = self._trainer.draft
        self.validation = self._validator.validate(draft)
        self._waited += 1
        if self.validation.agreement > self.best:
            self.best, self._waited = self.validation.agreement, 0
            save_draft(draft, self._target, self._target_name, self._out)
        self._write_checkpoint(draft.token_ids)
        return self.validation

    def _write_checkpoint(self, token_ids: Tensor) -> None:
        state = {
            "layers": list(self._shape.layers),
            "token_ids": token_ids,
            "best": self.best,
            "waited": self._waited,
            "trainer": self._trainer.state(),
        }
        with unfinished(self._out / CHECKPOINT) as beside:
            torch.save(state, beside)


def _read_checkpoint(out: Path, shape: DraftShape) -> dict[str, Any] | None:
    path = out / CHECKPOINT
    if not path.is_file():
        return None
    state: dict[str, Any] = torch.load(path, weights_only=True)
    if tuple(state["layers"]) != shape.layers:
        raise ValueError(
            f"layers: expected {state['layers']}, which {path} was trained with, "
            f"got {list(shape.layers)}; remove it to begin anew"
        )
    return state


def frequent_tokens(
    examples: Sequence[Example], target: PreTrainedModel, shape: DraftShape
) -> Tensor:
    """The tokens that the examples hold most often, the most frequent first: int32 [V_draft].

    Among equally frequent ones a tokenizer's lower ids are the commoner.
    """
    size = target.get_output_embeddings().out_features
    counts = torch.zeros(size, dtype=torch.int64)
    for example in examples:
        counts += torch.bincount(example.tokens, minlength=size)
    return counts.argsort(descending=True, stable=True)[: shape.vocab_size].int()
