"""Parameters in fp32 behind a model's own of fewer bits, and their running average."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_RAMP = 10  # steps: the average forgets a random start sooner


class MasterWeights:
    """What an optimiser moves: in bf16 small steps would be rounded away.

    modules: whose parameters are trained, by name. decay: of the average at each step, 0 for none.
    masters: fp32, in the order of the parameters.
    """

    def __init__(self, modules: Mapping[str, nn.Module], decay: float) -> None:
        self._parameters = [p for module in modules.values() for p in module.parameters()]
        self._decay = decay
        for parameter in self._parameters:
            parameter.requires_grad_(True)
        self.masters = [p.detach().float().clone() for p in self._parameters]
        self._averages = [master.clone() for master in self.masters]

    def take_gradients(self) -> None:
        """Move the gradients from the model's parameters to the masters."""
        for master, parameter in zip(self.masters, self._parameters, strict=True):
            master.grad = None if parameter.grad is None else parameter.grad.float()
            parameter.grad = None

    def stepped(self, step: int) -> None:
        """Follow the masters, which the optimiser has moved `step` times."""
        decay = min(self._decay, step / (step + _RAMP))
        torch._foreach_lerp_(self._averages, self.masters, 1 - decay)
        self._show(self.masters)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the model has the averages for weights."""
        self._show(self._averages)
        try:
            yield
        finally:
            self._show(self.masters)

    def state(self) -> dict[str, Any]:
        return {"masters": self.masters, "averages": self._averages}

    def resume(self, state: dict[str, Any]) -> None:
        for name, tensors in self.state().items():
            for tensor, stored in zip(tensors, state[name], strict=True):
                tensor.copy_(stored)
        self._show(self.masters)

    @torch.no_grad()
    def _show(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=True):
            parameter.copy_(value)
