"""What one request asks for: the law its tokens are drawn from, and when it ends."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch

Coupling = Literal["gumbel", "rejection"]
COUPLINGS: tuple[Coupling, ...] = ("gumbel", "rejection")


class FilterTensors(NamedTuple):
    """One request's filters, repeated for a number of rows, as the ops take them."""

    temperature: torch.Tensor  # float32 [rows]
    top_k: torch.Tensor  # int32 [rows]
    top_p: torch.Tensor  # float32 [rows]
    min_p: torch.Tensor  # float32 [rows]

    def head(self, rows: int) -> FilterTensors:
        """The same filters for the first `rows` rows (views)."""
        return FilterTensors(*(tensor[:rows] for tensor in self))


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to sample and when to stop.

    temperature: 0 is greedy. top_k 0, top_p 1 and min_p 0 are off; they apply in the order
        temperature, top_k, top_p (on the renormalised rest), min_p.
    seed: any 64-bit integer. Under the gumbel coupling the text is a function of the target, the
        prompt and the seed alone, whatever draft and policy are used.
    coupling: "gumbel" shares one noise between draft and target (Daliri et al. 2024);
        "rejection" is classical speculative sampling (Leviathan et al., Chen et al. 2023).
    max_new_tokens: committed tokens at most.
    stop: the request ends with the token that completes one of these strings; the string itself
        is not part of the text.
    eos_token_ids: tokens that end the request, committed as its last; None takes the models' own.
    ignore_eos: go on after an end-of-sequence token.

    Raises ValueError naming the field, what was wanted and what came.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    coupling: Coupling = "gumbel"
    max_new_tokens: int = 128
    stop: Sequence[str] = ()
    eos_token_ids: Collection[int] | None = None
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        def require(name: str, holds: bool, wanted: str) -> None:
            if not holds:
                raise ValueError(f"{name}: expected {wanted}, got {getattr(self, name)!r}")

        require(
            "temperature",
            math.isfinite(self.temperature) and self.temperature >= 0,
            "a finite number >= 0",
        )
        require("top_k", self.top_k >= 0, "an integer >= 0 (0 is off)")
        require("top_p", 0 < self.top_p <= 1, "a number in (0, 1]")
        require("min_p", 0 <= self.min_p <= 1, "a number in [0, 1]")
        require("seed", -(2**63) <= self.seed < 2**63, "a signed 64-bit integer")
        require("coupling", self.coupling in COUPLINGS, f"one of {', '.join(COUPLINGS)}")
        require("max_new_tokens", self.max_new_tokens >= 0, "an integer >= 0")
        require("stop", not isinstance(self.stop, str), "a sequence of strings")
        require("stop", all(self.stop), "no empty string")

    def ends(self, eos_token_ids: Collection[int]) -> Collection[int]:
        """The tokens that end this request, where `eos_token_ids` are the models' own."""
        if self.ignore_eos:
            return ()
        return eos_token_ids if self.eos_token_ids is None else self.eos_token_ids

    def filters(self, rows: int, device: torch.device) -> FilterTensors:
        """The filters as tensors for `rows` rows on `device`."""
        return FilterTensors(
            torch.full((rows,), self.temperature, dtype=torch.float32, device=device),
            torch.full((rows,), self.top_k, dtype=torch.int32, device=device),
            torch.full((rows,), self.top_p, dtype=torch.float32, device=device),
            torch.full((rows,), self.min_p, dtype=torch.float32, device=device),
        )
