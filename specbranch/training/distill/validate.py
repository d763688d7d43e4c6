"""How well a draft agrees with its target, and the readout that it does best to begin with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from specbranch.loading.distilled import NarrowDraft
from specbranch.training.distill.batches import Batch, Example, make_batch
from specbranch.training.distill.head import Head
from specbranch.training.distill.train import LOGIT_ROWS, divergence, draft_states

_RIDGE = 128  # states that speak for the readout as it is: what is fitted may be one batch


@dataclass(frozen=True, slots=True)
class Validation:
    """A draft beside its target on held-out answers.

    agreement: share of tokens at which the draft's first choice is the target's. divergence: mean
    KL(target || draft) in nats. tokens: how many there were.
    """

    agreement: float
    divergence: float
    tokens: int


class Validator:
    """Measures greedy agreement with the target, whose choices are worked out once."""

    def __init__(self, target: PreTrainedModel, examples: Sequence[Example], length: int) -> None:
        self._batches = [
            make_batch(examples[start : start + 4], length) for start in range(0, len(examples), 4)
        ]
        head = Head.of(target).to(torch.float32)
        self._choices = [_choices(head, batch.hidden) for batch in self._batches]

    @torch.inference_mode()
    def validate(self, draft: NarrowDraft) -> Validation:
        head = Head.of(draft.model).to(torch.float32)
        agreed, nats, tokens = 0, 0.0, 0
        for batch, choices in zip(self._batches, self._choices, strict=True):
            states = draft_states(draft, batch)
            for ours, theirs, choice in zip(
                *(tensor.split(LOGIT_ROWS) for tensor in (states, batch.hidden, choices)),
                strict=True,
            ):
                logits = head(ours)
                agreed += int((draft.token_ids[logits.argmax(-1)] == choice).sum())
                nats += float(divergence(logits, head(theirs))[0])
                tokens += len(choice)
        return Validation(agreed / tokens, nats / tokens, tokens)


@torch.inference_mode()
def _choices(head: Head, hidden: Tensor) -> Tensor:
    """The target's first choices [n] for its hidden states [n, H]."""
    return torch.cat([head(rows).argmax(-1) for rows in hidden.split(LOGIT_ROWS)])


@torch.no_grad()
def fit_readout(draft: NarrowDraft, batches: Iterable[Batch]) -> None:
    """Set the readout to the linear map from the draft's states that is nearest to the target's.

    Least squares, shrunk towards leaving it as it is: a draft of layers that were never trained to
    be read out starts far better from it than from the identity (compare the tuned lens, Belrose et
    al. 2023).
    """
    size = draft.readout.in_features
    moments, cross = torch.zeros(2, size, size, dtype=torch.float64)
    seen = 0
    for batch in batches:
        states, wanted = draft_states(draft, batch).double(), batch.hidden.double()
        moments += states.T @ states
        cross += states.T @ wanted
        seen += len(states)
    mean_square = moments.diagonal().mean() / seen
    ridge = _RIDGE * mean_square * torch.eye(size, dtype=torch.float64)
    # states @ fitted is nearest to wanted.
    fitted = torch.linalg.solve(moments + ridge, cross + ridge)
    draft.readout.weight.copy_(fitted.T @ draft.readout.weight.double())
