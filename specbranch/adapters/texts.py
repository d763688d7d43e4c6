"""Whose text is whose, in an engine that shows texts and names no request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from specbranch.drafting import Drafter, Text

Row = tuple[np.ndarray[Any, Any], Sequence[int]]  # a text's tokens, and those of them that are new


class Texts:
    """The texts that a drafter knows, found again by what they were.

    That of a request that is preempted is found when it comes back. Nothing tells of a request's
    end: the text that was longest out of use goes when there are others.

    most: at a time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._texts: dict[bytes, list[Text]] = {}  # by all of their tokens, the latest used last

    def follow(
        self, drafter: Drafter, rows: Mapping[int, Row]
    ) -> dict[int, tuple[Text, Sequence[int]]]:
        """The text of each row, with what is news to the drafter, where there is room for it."""
        found: dict[int, tuple[Text, Sequence[int]]] = {}
        for row, (tokens, new) in rows.items():
            if text := self._take(tokens[: len(tokens) - len(new)]):
                found[row] = text, new
        for row, (tokens, _) in rows.items():
            if row not in found and self._make_room(drafter, len(found)):
                found[row] = drafter.begin(tokens.tolist()), ()
        for row, (text, _) in found.items():
            self._texts.setdefault(rows[row][0].tobytes(), []).append(text)
        return found

    def _take(self, before: np.ndarray[Any, Any]) -> Text | None:
        """One of the texts that were so; those of twins are as good as each other."""
        key = before.tobytes()
        twins = self._texts.get(key, [])
        text = twins.pop() if twins else None
        if not twins:
            self._texts.pop(key, None)
        return text

    def _make_room(self, drafter: Drafter, in_use: int) -> bool:
        """For one more beside those in use."""
        unused = sum(map(len, self._texts.values()))
        if in_use + unused < self._most:
            return True
        oldest = next(iter(self._texts), None)
        if oldest is None:
            return False
        twins = self._texts[oldest]
        drafter.end(twins.pop())
        if not twins:
            del self._texts[oldest]
        return True
