"""From logits to laws and draws, as sampling code in eager torch usually has it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Filter:
    """top_k 0 and top_p 1 are off."""

    top_k: int = 0
    top_p: float = 1.0

    def params(self) -> dict[str, Any]:
        return {"top-k": self.top_k, "top-p": self.top_p} if self.top_k else {}


NO_FILTER = Filter()
COMMON_FILTER = Filter(50, 0.95)


def sampling_params(
    rows: int, temperature: float, kept: Filter, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """temperature, top_k, top_p and min_p, each [R]"""
    return (
        torch.full((rows,), temperature, device=device),
        torch.full((rows,), kept.top_k, dtype=torch.int32, device=device),
        torch.full((rows,), kept.top_p, device=device),
        torch.zeros(rows, device=device),
    )


def random_logits(device: torch.device, dtype: torch.dtype, *shape: int) -> Tensor:
    return torch.randn(shape, device=device).mul_(3).to(dtype)


def eager_law(logits: Tensor, kept: Filter) -> Tensor:
    """softmax after top-k and top-p, in float32: [..., V] -> [..., V]"""
    logits = logits.float()
    if kept.top_k:
        smallest = logits.topk(kept.top_k).values[..., -1:]
        logits = logits.masked_fill(logits < smallest, -math.inf)
    if kept.top_p < 1:
        ranked, order = logits.softmax(-1).sort(descending=True)
        beyond = ranked.cumsum(-1) - ranked >= kept.top_p
        logits = logits.masked_fill(beyond.scatter(-1, order, beyond), -math.inf)
    return logits.softmax(-1)


def eager_draw(law: Tensor) -> Tensor:
    """A token of each row, by the race of exponentials: [..., V] -> [...]"""
    return (law / torch.empty_like(law).exponential_()).argmax(-1)
