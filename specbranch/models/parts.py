"""Parts that stand in a model where transformers puts its own."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from specbranch import _C


class Product(nn.Module):
    """A linear layer with weights in a form of its own, for inference on a CPU."""

    in_features: int
    out_features: int

    @abstractmethod
    def product(self, dtype: torch.dtype) -> _C.Linear:
        """The same layer for `_C.Decoder`, over rows of a dtype. It shares the weights."""


class Table(nn.Module):
    """An embedding with weights in a form of its own, which `_C.Decoder` takes as they are."""

    weight: Tensor


def is_untouched(module: nn.Module) -> bool:
    """Whether it does what its class says: no hook, no forward of its own, no dropout."""
    return not (
        (module.training and type(module) is nn.Dropout)
        or module._forward_hooks
        or module._forward_pre_hooks
        or "forward" in vars(module)
    )
