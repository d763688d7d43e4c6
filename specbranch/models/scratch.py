"""Scratch memory of ops, kept between calls so that none of them allocates."""

from __future__ import annotations

import torch
from torch import Tensor


class Scratch:
    """The workspace of ops whose calls follow each other on one stream."""

    def __init__(self, device: torch.device) -> None:
        self._floats = torch.zeros(0, dtype=torch.float32, device=device)

    def of(self, size: int) -> Tensor:
        """At least `size` floats, as the last call left them; zeros to begin with."""
        if size > len(self._floats):
            self._floats = self._floats.new_zeros(size)
        return self._floats
