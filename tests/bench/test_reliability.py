"""How often a draft is right: a place's guesses, judged by hand."""

from __future__ import annotations

import pytest

from bench.reliability import judged, shares
from specbranch._C import Reliability


def test_each_guess_of_a_place_is_judged_and_its_token_learnt():
    reliability = Reliability()
    rows = judged([5, 9, 2], [0.6, 0.3, 0.05], 9, reliability)
    assert [right for _, _, right in rows] == [False, True, False]
    assert [own for own, _, _ in rows] == pytest.approx([0.6, 0.3, 0.05])
    for _ in range(50):
        rows = judged([5, 9, 2], [0.6, 0.3, 0.05], 9, reliability)
    assert rows[1][1] > 0.3  # a second guess that always is
    assert rows[0][1] < 0.6  # a first guess that is never right


def test_shares_are_of_tokens_by_kind_of_prompt():
    found = shares({"code": [0, 0, 1, 8], "math": [0, 3]})
    assert found["first guess"] == {"code": 0.5, "math": 0.5, "all": 0.5}
    assert (found["among 4"], found["tokens"]) == (round(5 / 6, 3), 6)
