"""A replay's target: its decisions are recorded texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from specbranch.hrad.features import surviving_block
from specbranch.lanes import Lane, Pending
from specbranch.policies.base import Outlook
from specbranch.replay.recorded import Recorded
from specbranch.request import Request
from specbranch.trace import Label
from specbranch.tree import Walk

_NO_LOGITS = torch.empty(0)


class RecordedTarget:
    """A `Target` that knows the texts which its requests will commit.

    lane: the target's. requests: each with its recording. max_rows: of a request in a forward.
    """

    vocab_size = 0

    def __init__(self, lane: Lane, requests: Mapping[Request, Recorded], *, max_rows: int) -> None:
        self.max_rows = max_rows
        self._lane = lane
        self._recorded = requests

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
        return [self._outlook(*each) for each in zip(requests, walks, strict=True)]

    def keep(self, requests: Sequence[Request], walks: Sequence[Walk]) -> Pending[None]:
        return self._lane.submit(Label.COMMIT, lambda: None)

    def _outlook(self, request: Request, walk: Walk | None) -> Outlook | None:
        foreseen = self._recorded[request].outlooks or ()
        # The walk is committed by now, and its last token is what the outlook is below.
        last = _decided(request) - 1
        if walk is None or last >= len(foreseen):
            return None
        by_length = foreseen[last]
        return by_length[len(surviving_block(request.tree, walk.winner, len(by_length) - 1))]

    def _walk(self, request: Request) -> Walk:
        tree, decided = request.tree, _decided(request)
        text = self._recorded[request].recording.text
        rows = {node: row for row, node in enumerate(tree.submitted)}
        path = [0]
        while True:
            token = text[decided + len(path) - 1]
            children = tree.children(path[-1])
            named = zip(children, tree.tokens(children), strict=True)
            child = next((each for each, guess in named if guess == token), -1)
            if child not in rows:
                return Walk(path, [rows[node] for node in path], token, child)
            path.append(child)


def _decided(request: Request) -> int:
    """Tokens of the text that are committed."""
    return len(request.committed) - len(request.prompt)
