"""Training a draft on its target's laws, first choices and last hidden states."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from specbranch.loading.distilled import NarrowDraft, trained_modules
from specbranch.training.distill.attention import PASSAGES
from specbranch.training.distill.batches import Batch, Example, shuffled_batches
from specbranch.training.distill.head import Head
from specbranch.training.distill.weights import MasterWeights

LOGIT_ROWS = 512  # at a time: a whole batch's logits would take gigabytes
_FREQUENT, _RARE = 4096, 1024  # columns of a batch's loss


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How to train.

    steps: of the optimiser. tokens: of a batch. length: of a passage, at most. lr: the highest
    learning rate, reached after `warmup` of all steps and left on a cosine. average: decay of the
    weights' running average at each step. ce_weight, hidden_weight: of the cross-entropy and of the
    hidden states' distance, beside the KL divergence. seed: of all random choices.
    """

    steps: int
    tokens: int = 2048
    length: int = 512
    lr: float = 1e-3
    warmup: float = 0.05
    weight_decay: float = 0.01
    average: float = 0.99
    ce_weight: float = 0.5
    hidden_weight: float = 1.0
    seed: int = 0


class Trainer:
    """Trains a draft's layers, last norm and readout; embedding and head stay the target's.

    The head's columns are in order of frequency. A batch's loss sees the most frequent of them, the
    tokens of the batch and some others, newly chosen each time, at a third of the cost of all.

    draft: trained in place, in its own dtype, with fp32 weights behind it. examples: to train on.
    step: steps taken. weights: those that are trained.
    """

    def __init__(
        self, draft: NarrowDraft, examples: Sequence[Example], options: TrainOptions
    ) -> None:
        self.draft = draft
        self.options = options
        self.step = 0
        self._examples = examples
        self._head = Head.of(draft.model).to(torch.bfloat16)
        self._columns = Columns(draft.token_ids)
        draft.model.train().requires_grad_(False)
        self.weights = MasterWeights(trained_modules(draft), options.average)
        self._optimiser = torch.optim.AdamW(
            self.weights.masters,
            lr=options.lr,
            betas=(0.9, 0.95),
            weight_decay=options.weight_decay,
            fused=True,
        )
        self._epoch, self._taken = 0, 0
        self._batches: Iterator[Batch] = iter(())

    def train_step(self) -> float:
        """One step of the optimiser. Returns the batch's mean loss."""
        for group in self._optimiser.param_groups:
            group["lr"] = self._learning_rate()
        loss = self._backward(self._next_batch())
        self.weights.take_gradients()
        torch.nn.utils.clip_grad_norm_(self.weights.masters, 1.0)
        self._optimiser.step()
        self.step += 1
        self.weights.stepped(self.step)
        return loss

    def state(self) -> dict[str, Any]:
        """All that a resumed training needs."""
        return {
            "step": self.step,
            "epoch": self._epoch,
            "taken": self._taken,
            "optimiser": self._optimiser.state_dict(),
            "weights": self.weights.state(),
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from `state()`, with the batch that comes next."""
        self.step, self._epoch, self._taken = state["step"], state["epoch"], state["taken"]
        self._optimiser.load_state_dict(state["optimiser"])
        self.weights.resume(state["weights"])
        if self._epoch:
            self._batches = islice(self._epoch_batches(), self._taken, None)

    def _learning_rate(self) -> float:
        options = self.options
        warmup = max(1, round(options.steps * options.warmup))
        if self.step < warmup:
            return options.lr * (self.step + 1) / warmup
        progress = min(1.0, (self.step - warmup) / max(1, options.steps - warmup))
        return options.lr * (0.02 + 0.98 * (1 + math.cos(math.pi * progress)) / 2)

    def _next_batch(self) -> Batch:
        batch = next(self._batches, None)
        if batch is None:
            self._epoch, self._taken = self._epoch + 1, 0
            self._batches = self._epoch_batches()
            batch = next(self._batches)
        self._taken += 1
        return batch

    def _epoch_batches(self) -> Iterator[Batch]:
        options = self.options
        return shuffled_batches(
            self._examples,
            tokens=options.tokens,
            length=options.length,
            seed=options.seed + self._epoch,
        )

    def _backward(self, batch: Batch) -> float:
        """Add the gradient of the batch's mean loss, which is returned."""
        states = draft_states(self.draft, batch)
        head = self._head.rows(self._columns.choose(batch.tokens, self.options.seed + self.step))
        inputs = states.detach().requires_grad_(True)
        total = 0.0
        for ours, theirs in zip(
            inputs.split(LOGIT_ROWS), batch.hidden.split(LOGIT_ROWS), strict=True
        ):
            loss = self._loss(head, ours, theirs) / len(states)
            loss.backward()
            total += float(loss.detach())
        states.backward(inputs.grad)
        return total

    def _loss(self, head: Head, states: Tensor, wanted: Tensor) -> Tensor:
        """The sum over the rows of the draft's states [n, H] and the target's."""
        with torch.no_grad():
            law = head(wanted)
        kl, ce = divergence(head(states), law)
        apart = distance(states, wanted)
        return kl + self.options.ce_weight * ce + self.options.hidden_weight * apart


class Columns:
    """Chooses the columns of a narrow head that a batch's loss sees.

    token_ids: int32 [V_draft], the token of each column, the most frequent first.
    """

    def __init__(self, token_ids: Tensor) -> None:
        self._size = len(token_ids)
        self._token_ids = token_ids

    def choose(self, tokens: Tensor, seed: int) -> Tensor:
        """Distinct columns: the frequent ones, those of `tokens`, and rare ones by chance."""
        chosen = torch.isin(self._token_ids, tokens.to(self._token_ids.dtype))
        chosen[:_FREQUENT] = True
        chance = torch.Generator().manual_seed(seed)
        chosen[torch.randint(self._size, (_RARE,), generator=chance)] = True
        return chosen.nonzero()[:, 0]


def draft_states(draft: NarrowDraft, batch: Batch) -> Tensor:
    """What the draft gives to its head at the batch's places: [m, H] in the draft's dtype."""
    model: Any = draft.model
    model.set_attn_implementation(PASSAGES)
    output = model.base_model(
        input_ids=batch.tokens[None],
        position_ids=batch.positions[None],
        lengths=batch.lengths,
        use_cache=False,
    )
    states: Tensor = draft.readout(output.last_hidden_state[0, batch.places])
    return states


def divergence(logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """The draft's law against the target's, both given one of the head's tokens.

    logits, wanted: [n, V], of the draft and the target. Returns sums over the rows: KL(target ||
    draft), and the cross-entropy with the target's first choice.
    """
    log_law = F.log_softmax(logits.float(), -1)
    kl = F.kl_div(log_law, F.log_softmax(wanted.float(), -1), reduction="sum", log_target=True)
    return kl, F.nll_loss(log_law, wanted.argmax(-1), reduction="sum")


def distance(states: Tensor, wanted: Tensor) -> Tensor:
    """The sum over rows [n, H] of their squared distance, relative to `wanted`'s squared norm."""
    wanted = wanted.float()
    return ((states.float() - wanted).square().sum(-1) / wanted.square().sum(-1)).sum()
