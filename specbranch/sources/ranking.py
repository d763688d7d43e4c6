"""Ranking a draft's logits: each row's guesses, and how sure the draft is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
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
        self._part = lru_cache(VIEWS)(partial(_part, self._sampling, self._guesses.fields))
        self._floats = lru_cache(partial(_workspace_size, max_rows))

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

    def first_choices(self, first_row: int, count: int) -> Tensor:
        """The best guesses of ranked rows, int32 [count] on the device."""
        return self._guesses.fields["ids"][first_row : first_row + count, 0]

    def fetch(self, n: int) -> Guesses:
        """The guesses of the first n rows; waits for them."""
        record = self._guesses.fetch()
        return Guesses(*(record[name][:n] for name in Guesses._fields))


def _part(
    sampling: SamplingRows, guesses: Mapping[str, Tensor], first_row: int, count: int
) -> tuple[SamplingTensors, list[Tensor]]:
    """What is read and what is written of some rows."""
    end = first_row + count
    return sampling.part(first_row, end), [guesses[each][first_row:end] for each in Guesses._fields]


def _workspace_size(rows: int, vocab_size: int) -> int:
    return max(
        ops.draft_topk_workspace_size(rows, vocab_size),
        ops.sampling_probs_workspace_size(rows, vocab_size),
    )
