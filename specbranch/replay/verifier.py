"""The target's side of a replayed request: its decisions are the recorded text."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from specbranch.lanes import Lane, Pending
from specbranch.policies.base import Outlook
from specbranch.sampling import SamplingParams
from specbranch.tree import Node
from specbranch.verifier import Verifier, Walk

_NO_LOGITS = torch.empty(0)


class ReplayVerifier(Verifier):
    """A verifier that knows the text.

    lane: the target's. max_nodes: rows of a forward, at most.
    """

    def __init__(self, lane: Lane, max_nodes: int) -> None:
        self._lane = lane
        self._max_nodes = max_nodes

    def follow(self, text: Sequence[int], outlooks: Sequence[Outlook] | None = None) -> None:
        """The next request will commit `text`.

        outlooks: what H-RAD expects below each of its tokens, None without H-RAD.
        """
        self._text = text
        self._outlooks = outlooks

    def begin(self, params: SamplingParams, prompt: Sequence[int]) -> Pending[None]:
        self._committed = 0
        return self._lane.submit("prefill", lambda: None)

    @property
    def max_rows(self) -> int:
        return self._max_nodes

    def submit(self, rows: Sequence[Node]) -> Pending[torch.Tensor]:
        return self._lane.submit("target", lambda: _NO_LOGITS, rows=len(rows))

    def outlook(self, rows: Sequence[Node], walk: Walk) -> Outlook | None:
        if self._outlooks is None:
            return None
        return self._outlooks[self._committed + len(walk.path) - 1]

    def commit(self, rows: Sequence[Node], path: Sequence[Node]) -> Pending[None]:
        self._committed += len(path)
        return self._lane.submit("commit", lambda: None)

    def _walk(self, rows: Sequence[Node], logits: torch.Tensor, laws: torch.Tensor | None) -> Walk:
        submitted = set(rows)
        path = [rows[0]]
        while True:
            token = self._text[self._committed + len(path) - 1]
            child = next((child for child in path[-1].children if child.token == token), None)
            if child is None or child not in submitted:
                return Walk(path, token, child)
            path.append(child)
