"""Parts that stand in a model where transformers puts its own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from specbranch import _C


class Product(nn.Module):
    """A linear layer with weights in a form of its own, for inference on a CPU."""

    in_features: int
    out_features: int

    @abstractmethod
    def product(self) -> _C.Linear:
        """The same layer for `_C.Decoder`. It shares the weights."""


class BorrowedEmbedding(nn.Module):
    """Another model's embedding, its vectors cast to a dtype."""

    def __init__(self, embedding: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self._borrowed = (embedding,)  # in a tuple, so that it is no submodule
        self._dtype = dtype

    @property
    def lender(self) -> nn.Module:
        return self._borrowed[0]

    def forward(self, ids: Tensor) -> Tensor:
        vectors: Tensor = self.lender(ids)
        return vectors.to(self._dtype)


def modules_of(model: nn.Module) -> Iterator[nn.Module]:
    """All that a forward goes through, what is borrowed included."""
    for module in model.modules():
        yield module
        if type(module) is BorrowedEmbedding:
            yield from module.lender.modules()


def is_untouched(module: nn.Module) -> bool:
    """Whether it does what its class says: no hook, no forward of its own, no dropout."""
    return not (
        (module.training and type(module) is nn.Dropout)
        or module._forward_hooks
        or module._forward_pre_hooks
        or "forward" in vars(module)
    )
