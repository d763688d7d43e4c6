"""Ranking a draft's logits: each row's guesses, and how sure the draft is."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from specbranch import ops
from specbranch.models.sampling_rows import SamplingRows, SamplingTensors
from specbranch.models.scratch import Scratch
from specbranch.models.transfers import VIEWS, DownloadRecord
from specbranch.sampling import Coupling, SamplingParams
from specbranch.sources.source import Guesses


class RankedRows(NamedTuple):
    """Rows of one request that are ranked together: its parameters, and a seed for each row."""

    params: SamplingParams
    seeds: Sequence[int]


class Ranker:
    """Ranks the guesses of up to max_rows rows of logits, k a row.

    token_ids: int32 [V], the token of each column of the logits, None where it is the column's
    number.
    """

    def __init__(
        self, max_rows: int, k: int, device: torch.device, token_ids: Tensor | None = None
    ) -> None:
        self._max_rows = max_rows
        self._k = k
        self._token_ids = token_ids
        self._scratch = Scratch(device)
        self._sampling = SamplingRows(max_rows, device)
        self._guesses = DownloadRecord(
            [
                ("ids", "i4", (max_rows, k)),
                ("estimates", "f4", (max_rows, k)),
                ("max_prob", "f4", (max_rows,)),
                ("entropy", "f4", (max_rows,)),
            ],
            device,
        )
        self._part = lru_cache(VIEWS)(self._views)
        self._floats = lru_cache(self._workspace_size)

    def prepare(self, rows: Sequence[RankedRows]) -> None:
        """Set how the next rows, in this order, are ranked."""
        self._sampling.send(rows)

    def rank(
        self, logits: Tensor, positions: Tensor, coupling: Coupling, first_row: int
    ) -> Tensor | None:
        """Rank the guesses for the tokens at `positions` [n] by logits [n, V].

        first_row: of the prepared rows, whose guesses `fetch` then has.
        Returns the laws [n, V] that the guesses were drawn from under rejection, else None.
        """
        sampling, (ids, estimates, max_prob, entropy) = self._part(first_row, len(logits))
        workspace = self._scratch.of(self._floats(logits.shape[1]))
        ops.draft_topk_out(
            logits,
            self._k,
            *sampling,
            positions,
            coupling,
            self._token_ids,
            ids,
            estimates,
            max_prob,
            entropy,
            workspace,
        )
        if coupling != "rejection":
            return None
        laws = logits.new_empty(logits.shape, dtype=torch.float32)
        ops.sampling_probs_out(logits, *sampling.filters, laws, workspace)
        return laws

    def _views(self, first_row: int, count: int) -> tuple[SamplingTensors, list[Tensor]]:
        """What is read and what is written of some rows."""
        end = first_row + count
        guesses = [self._guesses.fields[name][first_row:end] for name in Guesses._fields]
        return self._sampling.part(first_row, end), guesses

    def _workspace_size(self, vocab_size: int) -> int:
        size = self._max_rows, vocab_size
        return max(ops.draft_topk_workspace_size(*size), ops.sampling_probs_workspace_size(*size))

    def first_choices(self, first_row: int, count: int) -> Tensor:
        """The best guesses of ranked rows, int32 [count] on the device."""
        return self._guesses.fields["ids"][first_row : first_row + count, 0]

    def fetch(self, n: int) -> Guesses:
        """The guesses of the first n rows; waits for them."""
        record = self._guesses.fetch()
        return Guesses(*(record[name][:n] for name in Guesses._fields))
