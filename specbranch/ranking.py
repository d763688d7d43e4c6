"""What the draft guesses at each node: its ranked candidates, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from specbranch import ops
from specbranch.sampling import SamplingParams
from specbranch.scratch import Scratch
from specbranch.staging import download, upload


class DraftRows(NamedTuple):
    """What one draft step says about each of its n rows."""

    # [n, k] the guesses, best (or first drawn) first, -1 where there are fewer
    ids: list[list[int]]
    estimates: list[list[float]]  # [n, k] chance that each is right
    max_prob: list[float]  # [n] of the draft's law
    entropy: list[float]  # [n] of the draft's law, in nats
    laws: Sequence[Tensor] | None = None  # n times [V], what the guesses were drawn from


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
        self._device = device
        self._token_ids = token_ids
        self._scratch = Scratch(device)
        self._seeds = upload(max_rows, torch.int64, device)
        self._guesses = download(max_rows * (2 * k + 2), torch.int32, device)
        guesses, certainty = self._guesses.tensor.split([2 * max_rows * k, 2 * max_rows])
        self._ids, estimates = guesses.view(2, max_rows, k).unbind()
        self._estimates = estimates.view(torch.float32)
        self._max_prob, self._entropy = certainty.view(torch.float32).view(2, max_rows).unbind()

    def begin(self, params: SamplingParams) -> None:
        """Start a request. Its noise is shared by all rows until `seed` says otherwise."""
        self._filters = params.filters(self._max_rows, self._device)
        self.coupling = params.effective_coupling
        self.seed([params.seed] * self._max_rows)

    def seed(self, seeds: Sequence[int]) -> None:
        """Set the seed of each of the next rows."""
        self._seeds.values()[: len(seeds)] = seeds
        self._seeds.send()

    def rank(self, logits: Tensor, positions: Tensor, first_row: int = 0) -> Tensor | None:
        """Rank the guesses for the tokens at `positions` [n] by logits [n, V].

        first_row: of the n rows that `fetch` then has them in.
        Returns the laws [n, V] that the guesses were drawn from under rejection, else None.
        """
        n = len(logits)
        rows, filters = slice(first_row, first_row + n), self._filters.head(n)
        ops.draft_topk_out(
            logits,
            self._k,
            *filters,
            self._seeds.tensor[rows],
            positions,
            self.coupling,
            self._token_ids,
            self._ids[rows],
            self._estimates[rows],
            self._max_prob[rows],
            self._entropy[rows],
            self._scratch.of(ops.draft_topk_workspace_size(self._max_rows, logits.shape[1])),
        )
        return ops.sampling_probs(logits, *filters) if self.coupling == "rejection" else None

    def first_choice(self, row: int) -> Tensor:
        """The best guess of a ranked row, int32 [1] on the device."""
        return self._ids[row, :1]

    def fetch(self, n: int) -> DraftRows:
        """The first n rows; waits for them."""
        values = self._guesses.fetch()
        guesses, certainty = np.split(values, [2 * self._max_rows * self._k])
        ids, estimates = guesses.reshape(2, self._max_rows, self._k)
        max_prob, entropy = certainty.view("f4").reshape(2, self._max_rows)
        return DraftRows(
            ids[:n].tolist(),
            estimates[:n].view("f4").tolist(),
            max_prob[:n].tolist(),
            entropy[:n].tolist(),
        )
