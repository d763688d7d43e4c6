"""Answers do not wait for a drafter's thread where there is a branch, and its errors are told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from specbranch.drafting import Chain, ThreadedDrafter
from specbranch.lanes.threads import ThreadLane
from tests.drafting.gated import GatedSource, until


@pytest.fixture
def source() -> GatedSource:
    return GatedSource()


@pytest.fixture
def drafter(source) -> Iterator[ThreadedDrafter]:
    lane = ThreadLane("draft", [0], 1)
    drafter = ThreadedDrafter(source, lane, Chain(8), max_len=100, rows=1)
    yield drafter
    source.permits.release(1000)
    drafter.close()
    lane.close()


def test_an_answer_does_not_wait_for_the_step_in_flight(source, drafter):
    text = drafter.begin([1])
    source.permits.release(4)
    drafter.propose({text: []})
    until(lambda: text.tree.num_expanded == 4)
    (answer,) = drafter.propose({text: [2, 3]})  # the fifth step hangs
    assert answer.tokens == [4, 5]
    assert drafter.counts.hits == 1
    (answer,) = drafter.propose({text: [4]})  # before the thread has followed
    assert answer.tokens == [5]
    source.permits.release(5)
    until(lambda: not text.told)
    assert text.request.committed == [1, 2, 3, 4]


def test_what_is_lost_waits_for_a_step(source, drafter):
    text = drafter.begin([1])
    source.permits.release(4)
    drafter.propose({text: []})
    until(lambda: text.tree.num_expanded == 4)
    source.permits.release(3)
    (answer,) = drafter.propose({text: [50]})
    assert answer.tokens[0] == 51
    assert drafter.counts.hits == 0


def test_an_error_is_told_and_the_caller_not_left_waiting(source, drafter):
    text = drafter.begin([1])
    source.error = ArithmeticError("no law")
    source.permits.release(1)
    with pytest.raises(ArithmeticError, match="no law"):
        drafter.propose({text: []})
    with pytest.raises(ArithmeticError, match="no law"):
        drafter.propose({text: [2]})
