"""The target's side of a request: one forward over a subtree, one verdict about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from specbranch.hrad.model import HRad
from specbranch.lanes import Lane, Pending
from specbranch.models.runner import ModelRunner
from specbranch.policies.base import Outlook
from specbranch.sampling import SamplingParams
from specbranch.tree import Node
from specbranch.verdict import Examiner, TreeNodes


class Walk(NamedTuple):
    """The way the target took through the tree."""

    path: list[Node]  # accepted nodes, the root first
    next_token: int  # what the target chose where the path ends
    winner: Node | None  # the guess of next_token, a child that was not submitted; None is a miss


class Verifier:
    """Runs the target model on its lane.

    hrad: looks ahead after each walk; the runner then has its feature layers.
    """

    def __init__(self, runner: ModelRunner, lane: Lane, hrad: HRad | None = None) -> None:
        self._runner = runner
        self._lane = lane
        self._examiner = Examiner(runner.device)
        self._hrad = hrad

    def begin(self, params: SamplingParams, prompt: Sequence[int]) -> Pending[None]:
        """Start a request: everything before the prompt's last token becomes context."""
        self._runner.reset()
        self._examiner.begin(params)
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

        rows: the submitted nodes. logits: [n, V] of them. laws: [n, V] their children were drawn
        from, None under the gumbel coupling. Raises LaneError if a visited row of logits is bad.
        """
        return self._lane.run("verify", lambda: self._walk(rows, logits, laws))

    def outlook(self, rows: Sequence[Node], walk: Walk) -> Outlook | None:
        """What is to be expected below the walk's next token, None without H-RAD.

        Reads the features of the latest forward, over `rows`.
        """
        hrad, features = self._hrad, self._runner.features
        if hrad is None or features is None:
            return None
        stopped = features[rows.index(walk.path[-1])]
        return self._lane.run("hrad", lambda: hrad.outlook(stopped, walk.next_token))

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
        tree = TreeNodes(
            tokens=[node.token for node in nodes],
            parents=[index[node.parent] if node.parent else -1 for node in nodes],
            draws=[node.draw for node in nodes],
            n_rows=len(rows),
        )
        position = self._runner.context_len + 1
        if laws is not None:
            laws = laws.to(logits.device)
        verdict = self._examiner.examine(tree, position, logits, laws)
        if verdict.bad_logits:
            raise FloatingPointError(
                f"the target's logits after position {position - 1} are NaN or rule out every token"
            )
        return Walk(
            [nodes[i] for i in verdict.path],
            verdict.next_token,
            nodes[verdict.winner] if verdict.winner >= 0 else None,
        )
