"""The target's verdict about a submitted tree, its question and its answer one copy each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from specbranch import ops
from specbranch.sampling import SamplingParams
from specbranch.scratch import Scratch
from specbranch.staging import download, upload


class TreeNodes(NamedTuple):
    """A tree as `verify_tree` takes it: the submitted nodes, then their other children."""

    tokens: Sequence[int]
    parents: Sequence[int]  # places in this order, -1 for the root
    draws: Sequence[int]  # n for the n-th draw from the parent's law, 0 for a deterministic guess
    n_rows: int  # submitted nodes


class Verdict(NamedTuple):
    """Where a walk led, as places in the order of the nodes."""

    path: list[int]  # accepted nodes, the root first
    next_token: int
    winner: int  # -1 on a miss
    bad_logits: bool  # a visited row decides nothing, and the rest says nothing


class Examiner:
    """Examines trees of one request after another."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._scratch = Scratch(device)
        self._reserve(64)

    def begin(self, params: SamplingParams) -> None:
        """Start a request."""
        self._filters = params.filters(1, self._device)
        self._seed = torch.full((1,), params.seed, dtype=torch.int64, device=self._device)

    def examine(
        self, nodes: TreeNodes, position: int, logits: Tensor, laws: Tensor | None
    ) -> Verdict:
        """Walk down from the root; waits for the verdict.

        position: of the token that the root's row decides. logits: [n_rows, V].
        laws: float32 [n_rows, V] that drawn nodes were drawn from, None under gumbel.
        """
        n = len(nodes.tokens)
        if n > self._max_nodes:
            self._reserve(2 * n)
        self._send(nodes, position)
        ops.verify_tree_out(
            self._candidates[:, :n],
            self._parents[:, :n],
            self._n_nodes,
            self._row_indptr,
            logits,
            *self._filters,
            self._seed,
            self._position,
            laws,
            None if laws is None else self._draws[:, :n],
            self._path[:, :n],
            *self._ends,
            self._scratch.of(ops.verify_tree_workspace_size(1, *logits.shape)),
        )
        values = self._results.fetch()
        path_len, next_token, winner, status = values[:4].tolist()
        return Verdict(values[4 : 4 + path_len].tolist(), next_token, winner, status != 0)

    def _reserve(self, max_nodes: int) -> None:
        self._max_nodes = max_nodes
        draw_words = -(-max_nodes // 4)
        self._arguments = upload(4 + 2 * max_nodes + draw_words, torch.int32, self._device)
        self._results = download(4 + max_nodes, torch.int32, self._device)
        sizes = [1, 2, 1, max_nodes, max_nodes, draw_words]
        self._n_nodes, self._row_indptr, self._position, tokens, parents, draws = (
            self._arguments.tensor.split(sizes)
        )
        self._candidates, self._parents = tokens[None], parents[None]
        self._draws = draws.view(torch.uint8)[None]
        results = self._results.tensor.split([1, 1, 1, 1, max_nodes])
        path_len, next_token, winner, status, path = results
        self._path, self._ends = path[None], (path_len, next_token, winner, status)

    def _send(self, nodes: TreeNodes, position: int) -> None:
        n, most = len(nodes.tokens), self._max_nodes
        values = self._arguments.values()
        values[:4] = n, 0, nodes.n_rows, position
        values[4 : 4 + n] = nodes.tokens
        values[4 + most : 4 + most + n] = nodes.parents
        values[4 + 2 * most :].view("u1")[:n] = nodes.draws
        self._arguments.send()
