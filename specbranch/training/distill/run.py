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
from specbranch.loading.distilled import NarrowDraft, check_bits, cut_draft, save_draft
from specbranch.training.distill.batches import Example, read_examples, shuffled_batches
from specbranch.training.distill.corpus import Corpus
from specbranch.training.distill.layers import pick_layers
from specbranch.training.distill.train import Trainer, TrainOptions
from specbranch.training.distill.validate import Validation, Validator, fit_readout

CHECKPOINT = "checkpoint.pt"
_HELD_OUT = 24  # passages, at most
_FITTED = 32  # batches that the first readout is fitted to, at most


@dataclass(frozen=True, slots=True)
class DraftShape:
    """layers: of the target that the draft begins with, see `pick_layers`. vocab_size: tokens of
    its head, at most. bits: of its weights on disk, see `save_draft`."""

    layers: str
    vocab_size: int
    bits: int = 16


@dataclass(frozen=True, slots=True)
class Progress:
    """After a step: its loss, and every so many steps how the draft does on held-out prompts."""

    step: int
    loss: float
    validation: Validation | None


class Distillation:
    """Trains a draft for a target. The best one so far stands in `out`, a checkpoint beside it.

    target: on CPU, in the dtype to train in, with plain linear layers. validate_every: steps
    between validations, each of which writes the checkpoint. patience: validations without a better
    draft to end after. validation: the latest. best: the highest agreement so far.
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
        check_bits(shape.bits)
        examples, held_out = read_examples(corpus)
        state = _read_checkpoint(out, shape)
        token_ids = state["token_ids"] if state else frequent_tokens(examples, target, shape)
        layers = (
            state["layers"] if state else pick_layers(shape.layers, target, examples, token_ids)
        )
        draft = cut_draft(target, layers, token_ids)
        if not state:
            batches = shuffled_batches(
                examples, tokens=options.tokens, length=options.length, seed=options.seed
            )
            fit_readout(draft, islice(batches, _FITTED))
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
            with self._trainer.weights.averaged():
                self.validation = self._validator.validate(draft)
        else:
            self.validation = self._validate()

    @property
    def layers(self) -> tuple[int, ...]:
        """Those of the target that the draft began with."""
        return self._trainer.draft.layers

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
        """Validate the average, keep it if it is the best so far, and write the checkpoint."""
        draft = self._trainer.draft
        with self._trainer.weights.averaged():
            self.validation = self._validator.validate(draft)
            self._waited += 1
            if self.validation.agreement > self.best:
                self.best, self._waited = self.validation.agreement, 0
                save_draft(draft, self._target, self._target_name, self._out, self._shape.bits)
        self._write_checkpoint(draft)
        return self.validation

    def _write_checkpoint(self, draft: NarrowDraft) -> None:
        state = {
            "wanted": self._shape.layers,
            "layers": draft.layers,
            "token_ids": draft.token_ids,
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
    if state["wanted"] != shape.layers:
        raise ValueError(
            f"layers: expected {state['wanted']}, which {path} was trained with, "
            f"got {shape.layers}; remove it to begin anew"
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
