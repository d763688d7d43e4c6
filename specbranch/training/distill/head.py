"""From last hidden states to logits, outside a model's forward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class Head:
    """A frozen head, or some of its rows.

    weight: [V, H]. bias: [V] or None. softcap: the logits' bound, None for none.
    """

    weight: Tensor
    bias: Tensor | None
    softcap: float | None

    @classmethod
    def of(cls, model: PreTrainedModel) -> Head:
        linear: Any = model.get_output_embeddings()
        bias = None if linear.bias is None else linear.bias.detach()
        return cls(
            linear.weight.detach(), bias, getattr(model.config, "final_logit_softcapping", None)
        )

    def to(self, dtype: torch.dtype) -> Head:
        bias = None if self.bias is None else self.bias.to(dtype)
        return Head(self.weight.to(dtype), bias, self.softcap)

    def rows(self, ids: Tensor) -> Head:
        """The head of the tokens `ids` [n] alone."""
        bias = None if self.bias is None else self.bias[ids]
        return Head(self.weight[ids], bias, self.softcap)

    def __call__(self, hidden: Tensor) -> Tensor:
        """hidden [..., H] of any dtype. Returns logits [..., V] in the head's."""
        logits = F.linear(hidden.to(self.weight.dtype), self.weight, self.bias)
        if self.softcap is None:
            return logits
        return self.softcap * torch.tanh(logits / self.softcap)
