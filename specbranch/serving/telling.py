"""What a stream tells of its tokens besides their text, to who asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from specbranch.request import Request


class Telling:
    """How a request's tokens came, and what the lanes did meanwhile, from chunk to chunk."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._transcript = request.transcript.anew()
        self._spans = 0

    def of(self, token_ids: Sequence[int]) -> dict[str, Any]:
        """origins: of these tokens, the next ones. pieces: the text that can be shown since each.
        spans: of the lanes since the last chunk."""
        start = len(self._transcript.token_ids)
        spans = self._request.trace.spans[self._spans :]
        self._spans += len(spans)
        return {
            "origins": self._request.stats.origins[start : start + len(token_ids)],
            "pieces": [self._transcript.commit([token])[1] for token in token_ids],
            "spans": [span.after(self._request.began)._asdict() for span in spans],
        }
