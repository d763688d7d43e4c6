"""Texts of an engine that names no request are found again, and the idle ones make room."""

from __future__ import annotations

import numpy as np
import pytest

from specbranch.adapters.texts import Texts
from specbranch.drafting import Chain, SteppedDrafter
from specbranch.lanes.threads import ThreadLane
from specbranch.sources.ngram import NGramSource


class Ended(SteppedDrafter):
    """Notes who was let go."""

    def end(self, text):
        self.ended.append(text)
        super().end(text)


@pytest.fixture
def drafter() -> Ended:
    drafter = Ended(NGramSource(), ThreadLane("draft", [0], 1), Chain(4), steps=1, max_len=64)
    drafter.ended = []
    return drafter


def row(*tokens: int, new: int) -> tuple[np.ndarray, list[int]]:
    return np.array(tokens, np.int32), list(tokens[len(tokens) - new :])


def test_a_text_is_followed_wherever_its_row_is(drafter):
    texts = Texts(4)
    first = texts.follow(drafter, {0: row(1, 2, 3, new=1), 1: row(5, 6, new=1)})
    assert [news for _, news in first.values()] == [(), ()]
    second = texts.follow(drafter, {1: row(1, 2, 3, 4, 5, new=2), 3: row(5, 6, 7, new=1)})
    assert second == {1: (first[0][0], [4, 5]), 3: (first[1][0], [7])}


def test_a_text_that_was_away_is_known(drafter):
    texts = Texts(2)
    away = texts.follow(drafter, {0: row(1, 2, new=1)})[0][0]
    for end in range(4, 7):
        texts.follow(drafter, {0: row(*range(9, 9 + end), new=1)})
    assert texts.follow(drafter, {0: row(1, 2, 3, new=1)}) == {0: (away, [3])}
    assert not drafter.ended


def test_twins_are_two_texts_and_part_where_they_differ(drafter):
    texts = Texts(4)
    twins = texts.follow(drafter, {0: row(1, 2, new=1), 1: row(1, 2, new=1)})
    assert twins[0][0] is not twins[1][0]
    parted = texts.follow(drafter, {0: row(1, 2, 3, new=1), 1: row(1, 2, 4, new=1)})
    assert {id(text) for text, _ in parted.values()} == {id(text) for text, _ in twins.values()}


def test_who_was_longest_away_makes_room(drafter):
    texts = Texts(2)
    old = texts.follow(drafter, {0: row(1, 2, new=1)})[0][0]
    kept = texts.follow(drafter, {0: row(5, 6, new=1)})[0][0]
    texts.follow(drafter, {0: row(5, 6, 7, new=1), 1: row(8, 9, new=1)})
    assert drafter.ended == [old]
    assert kept not in drafter.ended


def test_texts_in_use_stay_and_the_others_get_nothing(drafter):
    texts = Texts(1)
    kept = texts.follow(drafter, {0: row(1, 2, new=1)})[0][0]
    found = texts.follow(drafter, {0: row(8, 9, new=1), 1: row(1, 2, 3, new=1)})
    assert found == {1: (kept, [3])}
    assert not drafter.ended
