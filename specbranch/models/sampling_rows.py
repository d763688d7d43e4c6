"""Sampling parameters of rows, as the ops take them, sent to the device in one copy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from specbranch.models.transfers import VIEWS, UploadRecord
from specbranch.sampling import SamplingParams


class SamplingTensors(NamedTuple):
    """Filters and seeds of n rows."""

    temperature: Tensor  # float32 [n]
    top_k: Tensor  # int32 [n]
    top_p: Tensor  # float32 [n]
    min_p: Tensor  # float32 [n]
    seed: Tensor  # int64 [n]

    def part(self, first: int, end: int) -> SamplingTensors:
        return SamplingTensors(*(tensor[first:end] for tensor in self))

    @property
    def filters(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All but the seeds."""
        return self.temperature, self.top_k, self.top_p, self.min_p


class SamplingRows:
    """Parameters of up to `max_rows` rows, at the same addresses each time.

    part: those of the rows from one to another.
    """

    def __init__(self, max_rows: int, device: torch.device) -> None:
        self._record = UploadRecord(
            [
                ("seed", "i8", (max_rows,)),
                ("temperature", "f4", (max_rows,)),
                ("top_k", "i4", (max_rows,)),
                ("top_p", "f4", (max_rows,)),
                ("min_p", "f4", (max_rows,)),
            ],
            device,
        )
        fields = self._record.fields
        tensors = SamplingTensors(*(fields[name] for name in SamplingTensors._fields))
        self.part = lru_cache(VIEWS)(tensors.part)

    def send(self, parts: Iterable[tuple[SamplingParams, Sequence[int]]]) -> SamplingTensors:
        """Send the first rows: for each part its parameters and a seed for each of its rows."""
        host = self._record.host()
        first = end = 0
        for params, seeds in parts:
            first, end = end, end + len(seeds)
            host["seed"][first:end] = seeds
            host["temperature"][first:end] = params.temperature
            host["top_k"][first:end] = params.top_k
            host["top_p"][first:end] = params.top_p
            host["min_p"][first:end] = params.min_p
        self._record.send()
        return self.part(0, end)
