"""The target's side of a request: one forward over a subtree, one verdict about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from specbranch import ops
from specbranch.lanes import Lane, Pending
from specbranch.models.runner import ModelRunner
from specbranch.sampling import SamplingParams
from specbranch.tree import Node


class Walk(NamedTuple):
    """The way the target took through the tree."""

    path: list[Node]  # accepted nodes, the root first
    next_token: int  # what the target chose where the path ends
    winner: Node | None  # the guess of next_token, a child that was not submitted; None is a miss


class Verifier:
    """Runs the target model on its lane."""

    def __init__(self, runner: ModelRunner, lane: Lane) -> None:
        self._runner = runner
        self._lane = lane

    def begin(self, params: SamplingParams, prompt: Sequence[int]) -> Pending[None]:
        """Start a request: everything before the prompt's last token becomes context."""
        self._runner.reset()
        self._filters = params.filters(1, self._runner.device)
        self._seed = torch.tensor([params.seed], device=self._runner.device)
        return self._lane.submit("prefill", lambda: self._runner.prefill(prompt[:-1]))

    @property
    def max_rows(self) -> int:
        """Rows that one forward can take."""
        return self._runner.max_nodes

    @property
    def vocab_size(self) -> int:
        return self._runner.vocab_size

    def submit(self, rows: Sequence[Node]) -> Pending[torch.Tensor]:
        """Start the forward over `rows`, parents before children; logits [n, V] to come."""
        index = {node: row for row, node in enumerate(rows)}
        tokens = [node.token for node in rows]
        parents = [index[node.parent] if node.parent else -1 for node in rows]
        return self._lane.submit(
            "target", lambda: self._runner.forward(tokens, parents), rows=len(rows)
        )

    def verify(self, rows: Sequence[Node], logits: torch.Tensor, laws: torch.Tensor | None) -> Walk:
        """Walk down from the root as the target decides.

        rows: the submitted nodes. logits: [n, V] of them. laws: [1, n, V] their children were drawn
        from, None under the gumbel coupling. Raises LaneError if a visited row of logits is bad.
        """
        return self._lane.run("verify", lambda: self._walk(rows, logits, laws))

    def commit(self, rows: Sequence[Node], path: Sequence[Node]) -> Pending[None]:
        """Make `path` context and roll every other row back, in place."""
        index = {node: row for row, node in enumerate(rows)}
        keep = [index[node] for node in path]
        return self._lane.submit("commit", lambda: self._runner.commit(keep, len(keep)))

    def _walk(self, rows: Sequence[Node], logits: torch.Tensor, laws: torch.Tensor | None) -> Walk:
        submitted = set(rows)
        unsubmitted = (child for node in rows for child in node.children if child not in submitted)
        nodes = [*rows, *unsubmitted]
        index = {node: i for i, node in enumerate(nodes)}
        parents = [index[node.parent] if node.parent else -1 for node in nodes]
        position = self._runner.context_len + 1
        path, path_len, next_token, winner, status = ops.verify_tree(
            self._ints([node.token for node in nodes]),
            self._ints(parents),
            self._int(len(nodes)),
            self._int(len(rows)),
            logits[None],
            *self._filters,
            self._seed,
            self._int(position),
            None if laws is None else laws.to(logits.device),
            torch.tensor([[node.draw for node in nodes]], dtype=torch.uint8, device=logits.device)
            if laws is not None
            else None,
        )
        if int(status):
            raise FloatingPointError(
                f"the target's logits after position {position - 1} are NaN or rule out every token"
            )
        accepted = path[0, : int(path_len)].tolist()
        won = int(winner)
        return Walk([nodes[i] for i in accepted], int(next_token), nodes[won] if won >= 0 else None)

    def _int(self, value: int) -> torch.Tensor:
        return torch.tensor([value], dtype=torch.int32, device=self._runner.device)

    def _ints(self, values: list[int]) -> torch.Tensor:
        return torch.tensor([values], dtype=torch.int32, device=self._runner.device)
