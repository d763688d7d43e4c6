from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specbranch.sources.suffixes import MOST, Calibration, Candidate, Suffixes


def read(text: Sequence[int], max_n: int = 4) -> Suffixes:
    suffixes = Suffixes(max_n)
    for token in text:
        suffixes.append(token)
    return suffixes


def test_the_longest_suffix_comes_first():
    suffixes = read([1, 2, 3, 7, 2, 3, 8, 5, 3, 9, 1, 2, 3])
    assert suffixes.candidates((), 9) == [
        Candidate(7, 3, 1.0),
        Candidate(8, 2, 1.0),
        Candidate(9, 1, 1.0),
    ]
    assert [each.token for each in suffixes.candidates((), 2)] == [7, 8]


def test_of_one_length_the_frequent_then_the_late_ones_come_first():
    suffixes = read([5, 1, 5, 2, 5, 3, 5, 2, 5], max_n=1)
    assert suffixes.candidates((), 9) == [
        Candidate(2, 1, 0.5),
        Candidate(3, 1, 0.5),
        Candidate(1, 1, 1.0),
    ]


def test_a_path_goes_on_where_the_text_ends():
    suffixes = read([1, 2, 3, 4, 9, 1])
    assert suffixes.candidates([2], 1) == [Candidate(3, 2, 1.0)]
    assert suffixes.candidates([2, 3, 4], 1) == [Candidate(9, 4, 1.0)]
    assert suffixes.candidates([8], 1) == []
    assert len(suffixes) == 6, "a path is no text"


def test_a_text_without_repetition_says_nothing():
    assert read([]).candidates((), 3) == read([1, 2, 3]).candidates((), 3) == []


def by_search(text: list[int], path: list[int], max_n: int) -> list[int]:
    """The same by looking at every place of the text."""
    end, found = [*text, *path], []
    for n in range(min(max_n, len(end)), 0, -1):
        after = [text[i + n] for i in range(len(text) - n) if text[i : i + n] == end[-n:]][-16:]
        told = [token for token in after[::-1] if token not in found]
        ranked = sorted(told, key=lambda token: (-told.count(token), told.index(token)))
        found += list(dict.fromkeys(ranked))
    return found


TOKENS = st.lists(st.integers(0, 3), max_size=40)


@given(text=TOKENS, path=st.lists(st.integers(0, 3), max_size=6), max_n=st.integers(1, 5))
def test_the_index_finds_what_a_search_finds(text, path, max_n):
    found = read(text, max_n).candidates(path, 9)
    assert [each.token for each in found] == by_search(text, path, max_n)


def test_longer_suffixes_and_greater_shares_are_likelier():
    def chance(length: int, share: float) -> float:
        return Calibration().chances([Candidate(7, length, share)])[0]

    assert chance(1, 1.0) < chance(2, 1.0) < chance(5, 1.0) < 1
    assert chance(3, 0.25) < chance(3, 1.0)


def test_chances_come_to_what_is_true():
    calibration, rng = Calibration(), random.Random(0)
    first, second = Candidate(1, 2, 0.75), Candidate(2, 1, 1.0)
    for _ in range(4000):
        calibration.learn([first, second], rng.choices([1, 2, 3], [0.8, 0.15, 0.05])[0])
    assert calibration.chances([first, second]) == pytest.approx([0.8, 0.15], abs=0.02)


def test_what_is_learnt_of_one_length_says_nothing_of_another():
    calibration = Calibration()
    for _ in range(50):
        calibration.learn([Candidate(1, 2, 1.0)], 9)
    assert calibration.chances([Candidate(1, 2, 1.0)])[0] < 0.1
    untaught = Calibration().chances([Candidate(1, 3, 1.0)])
    assert calibration.chances([Candidate(1, 3, 1.0)]) == untaught


CANDIDATES = st.lists(
    st.builds(Candidate, st.integers(0, 5), st.integers(1, 5), st.floats(0.01, 1)), max_size=6
)


@given(history=st.lists(st.tuples(CANDIDATES, st.integers(0, 5))), asked=CANDIDATES)
def test_chances_are_at_most_one_in_sum(history, asked):
    calibration = Calibration()
    for candidates, token in history:
        calibration.learn(candidates, token)
    chances = calibration.chances(asked)
    assert all(0 <= chance <= MOST for chance in chances)
    assert sum(chances) <= 1
