from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specbranch.calibration import Calibration, drawn, ranked
from specbranch.tree import Node

ESTIMATES = st.lists(st.floats(0, 1.000001), min_size=1, max_size=6)


def walked(priors: list[float], right: int | None) -> tuple[list[Node], Node | None]:
    """A walk that ends at a root whose guesses had the given priors."""
    root = Node(0)
    root.children = [Node(token, root, prior=prior) for token, prior in enumerate(priors)]
    return [root], None if right is None else root.children[right]


def test_before_anything_is_learnt_the_prior_holds():
    assert Calibration().chances(ranked([0.6, 0.3])) == pytest.approx([0.6, 0.3])
    assert Calibration().chances([]) == []


def test_draws_of_small_probability_are_right_more_often_than_that():
    first, second = drawn([0.05, 0.05])
    assert first == pytest.approx(0.335)
    assert second == pytest.approx((1 - first) * 0.335)
    assert drawn([1.0, 0.0]) == [1.0, 0.0]


def test_chances_converge_to_the_frequencies_of_their_rank_and_bucket():
    calibration, rng = Calibration(), random.Random(0)
    for _ in range(4000):
        priors = ranked([0.7, 0.15])
        u = rng.random()
        calibration.learn(*walked(priors, 0 if u < 0.5 else 1 if u < 0.8 else None))
    first, second = calibration.chances([0.7, 0.15])
    assert first == pytest.approx(0.5, abs=0.03)
    assert second == pytest.approx(0.3, abs=0.03)
    assert calibration.chances([0.3]) == pytest.approx([0.3])
    assert calibration.chances([0.1, 0.6]) == pytest.approx([0.1, 0.6])


def test_first_guesses_that_always_hold_leave_little_for_the_others():
    calibration = Calibration()
    for _ in range(200):
        calibration.learn(*walked([0.55, 0.4], 0))
    first, second = calibration.chances([0.55, 0.4])
    assert first > 0.99
    assert second <= 1 - first
    assert calibration.chances([0.51])[0] > 0.99  # whatever its place in the bucket


def test_guesses_in_the_middle_of_a_walk_are_learnt_from_too():
    calibration = Calibration()
    path, child = walked([0.9], 0)
    child.children = [Node(5, child, prior=0.9)]
    for _ in range(50):
        calibration.learn([*path, child], None)
    (chance,) = calibration.chances([0.9])
    assert chance == pytest.approx((50 + 3 * 0.9) / 103)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(ESTIMATES, st.integers(-1, 5)), max_size=30), ESTIMATES)
@pytest.mark.parametrize("prior", [ranked, drawn])
def test_no_guess_ever_gets_likelier_than_its_parent(prior, history, estimates):
    calibration = Calibration(prior)
    for learnt, right in history:
        priors = prior(learnt)
        calibration.learn(*walked(priors, right if 0 <= right < len(priors) else None))
    chances = calibration.chances(prior(estimates))
    assert all(0 <= chance <= 1 for chance in chances)
    assert sum(chances) <= 1 + 1e-9
