"""A replay's target: its decisions are the recorded text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from specbranch.lanes import Lane, Pending
from specbranch.policies.base import Outlook
from specbranch.request import Request
from specbranch.trace import Label
from specbranch.tree import Walk

_NO_LOGITS = torch.empty(0)


class RecordedTarget:
    """A `Target` that knows the text which its requests will commit.

    lane: the target's. max_rows: rows of a forward, at most.
    outlooks: what H-RAD expects below each token of the text, None without H-RAD.
    """

    vocab_size = 0

    def __init__(
        self,
        lane: Lane,
        text: Sequence[int],
        outlooks: Sequence[Outlook] | None,
        *,
        max_rows: int,
    ) -> None:
        self.max_rows = max_rows
        self._lane = lane
        self._text = text
        self._outlooks = outlooks

    def has_room(self, request: Request) -> bool:
        return True

    def begin(self, request: Request) -> None:
        """It holds nothing of a request."""

    def read(self, request: Request) -> bool:
        request.reading = self._lane.submit(Label.PREFILL, lambda: None)
        return True

    def end(self, request: Request) -> None:
        """It holds nothing of a request."""

    def submit(self, requests: Sequence[Request]) -> Pending[Tensor]:
        rows = sum(len(request.tree.submitted) for request in requests)
        return self._lane.submit(Label.TARGET, lambda: _NO_LOGITS, rows=rows)

    def verify(self, requests: Sequence[Request], logits: Tensor) -> list[Walk | None]:
        return self._lane.run(Label.VERIFY, lambda: [self._walk(request) for request in requests])

    def outlooks(
        self, requests: Sequence[Request], walks: Sequence[Walk | None]
    ) -> list[Outlook | None]:
        if self._outlooks is None:
            return [None] * len(requests)
        # A request's walk is committed by now, and its last token is what the outlook is below.
        return [self._outlooks[_decided(request) - 1] for request in requests]

    def keep(self, requests: Sequence[Request], walks: Sequence[Walk]) -> Pending[None]:
        return self._lane.submit(Label.COMMIT, lambda: None)

    def _walk(self, request: Request) -> Walk:
        tree, decided = request.tree, _decided(request)
        rows = {node: row for row, node in enumerate(tree.submitted)}
        path = [0]
        while True:
            token = self._text[decided + len(path) - 1]
            children = tree.children(path[-1])
            named = zip(children, tree.tokens(children), strict=True)
            child = next((each for each, guess in named if guess == token), -1)
            if child not in rows:
                return Walk(path, [rows[node] for node in path], token, child)
            path.append(child)


def _decided(request: Request) -> int:
    """Tokens of the text that are committed."""
    return len(request.committed) - len(request.prompt)
