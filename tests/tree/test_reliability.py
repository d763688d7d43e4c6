from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specbranch._C import Reliability, Tree
from tests.tree import model

ESTIMATES = st.lists(st.floats(0, 1 + 2**-20, width=32), min_size=1, max_size=6)
HISTORY = st.lists(st.tuples(ESTIMATES, st.integers(-1, 5)), max_size=30)
COUPLINGS = ("gumbel", "rejection")


def walked(reliability: Reliability, estimates: list[float], right: int, coupling: str) -> None:
    """Teach that of a root's guesses with these estimates the one of rank `right` held, or none."""
    tree, k = Tree(0, coupling=coupling), len(estimates)
    row = np.array([estimates], np.float32)
    certainty = np.zeros(1, np.float32)
    ids = np.arange(k, dtype=np.int32)[None]
    tree.expand([0], ids, row, certainty, certainty, 0, reliability)
    tree.attach([k])
    tree.teach([0], 1 + right if 0 <= right < k else -1, reliability)


def test_before_anything_is_learnt_the_prior_holds():
    reliability = Reliability()
    assert reliability.priors([0.6, 0.3, 1.0000001]) == [0.6, 0.3, 1.0]
    # One draft in five is wrong a twentieth as often as it says.
    assert reliability.chances([0.6, 0.3]) == pytest.approx([0.676, 0.3])
    assert Reliability(copy_odds=0).chances([0.6, 0.3]) == pytest.approx([0.6, 0.3])
    assert reliability.chances([]) == reliability.priors([]) == []


def test_draws_of_small_probability_are_right_more_often_than_that():
    reliability = Reliability("rejection")
    first, second = reliability.priors([0.05, 0.05])
    assert first == pytest.approx(0.335)
    assert second == pytest.approx((1 - first) * 0.335)
    assert reliability.priors([1.0, 0.0]) == [1.0, 0.0]


def test_chances_converge_to_the_frequencies_of_their_rank_and_bucket():
    reliability, rng = Reliability(), random.Random(0)
    for _ in range(4000):
        u = rng.random()
        walked(reliability, [0.7, 0.15], 0 if u < 0.5 else 1 if u < 0.8 else -1, "gumbel")
    first, second = reliability.chances([0.7, 0.15])
    assert first == pytest.approx(0.5, abs=0.03)
    assert second == pytest.approx(0.3, abs=0.03)
    assert reliability.chances([0.3]) == pytest.approx([0.3])
    assert reliability.chances([0.1, 0.6]) == pytest.approx([0.1, 0.6])


def test_first_guesses_that_always_hold_leave_little_for_the_others():
    reliability = Reliability()
    for _ in range(200):
        walked(reliability, [0.55, 0.4], 0, "gumbel")
    first, second = reliability.chances([0.55, 0.4])
    assert first > 0.99
    assert second <= 1 - first
    assert reliability.chances([0.51])[0] > 0.99  # whatever its place in the bucket


def test_a_copy_of_the_target_is_soon_told_from_a_draft_that_means_what_it_says():
    copy, honest, rng = Reliability(), Reliability(), random.Random(0)
    for _ in range(12):
        estimate = rng.uniform(0.35, 0.65)
        walked(copy, [estimate], 0, "gumbel")
        walked(honest, [estimate], 0 if rng.random() < estimate else -1, "gumbel")
    assert copy.chances([0.15])[0] > 0.9  # where nothing was tested yet
    assert honest.chances([0.15])[0] == pytest.approx(0.15, abs=0.01)


def test_guesses_in_the_middle_of_a_walk_are_learnt_from_too():
    reliability, untaught = Reliability(), Reliability()
    estimates, certainty = np.full((1, 1), 0.875, np.float32), np.zeros(1, np.float32)
    tree = Tree(0)
    for node in (0, 1):
        ids = np.full((1, 1), 5, np.int32)
        tree.expand([node], ids, estimates, certainty, certainty, 0, untaught)
        tree.attach([1])
    for _ in range(50):
        tree.teach([0, 1], -1, reliability)
    (chance,) = reliability.chances([0.875])
    assert chance == pytest.approx((50 + 3 * 0.875) / 103)


@settings(deadline=None, max_examples=50)
@given(history=HISTORY, estimates=ESTIMATES, strength=st.sampled_from([0.3, 3.0]))
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_what_is_learnt_is_what_the_definition_says(coupling, history, estimates, strength):
    reliability = Reliability(coupling, strength)
    definition = model.Reliability(coupling, strength)
    for learnt, right in history:
        walked(reliability, learnt, right, coupling)
        for rank, prior in enumerate(definition.priors(learnt)):
            definition.learn(rank, prior, rank == right)
    priors = reliability.priors(estimates)
    assert priors == pytest.approx(definition.priors(estimates), abs=1e-12)
    assert reliability.chances(priors) == pytest.approx(definition.chances(priors), abs=1e-12)


@settings(deadline=None, max_examples=50)
@given(history=HISTORY, estimates=ESTIMATES)
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_no_guess_ever_gets_likelier_than_its_parent(coupling, history, estimates):
    reliability = Reliability(coupling)
    for learnt, right in history:
        walked(reliability, learnt, right, coupling)
    chances = reliability.chances(reliability.priors(estimates))
    assert all(0 <= chance <= 1 for chance in chances)
    assert sum(chances) <= 1 + 1e-9


def test_values_out_of_range_are_refused():
    with pytest.raises(ValueError, match="coupling: expected gumbel or rejection, got greedy"):
        Reliability("greedy")
    with pytest.raises(ValueError, match="strength: expected a number > 0"):
        Reliability(strength=0)
    with pytest.raises(ValueError, match="copy_odds: expected a number >= 0"):
        Reliability(copy_odds=-1)
    with pytest.raises(ValueError, match="priors: expected numbers in"):
        Reliability().chances([0.5, float("nan")])
    assert Reliability().priors([float("nan"), -1.0]) == [0.0, 0.0]
