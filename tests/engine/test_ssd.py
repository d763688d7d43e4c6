from __future__ import annotations

import pytest

from specbranch.policies import SSD
from tests.engine.pretended import Draft, outcome

# Decays by half a position: a^(1 / (1 + r)) = 0.25^(1 / 2).
HALVING = {"fan_out": 8, "acceptance": 0.25, "power": 1.0}


def test_fan_outs_fall_geometrically_and_the_last_outcome_has_its_own():
    policy = SSD(**HALVING, gamma=3)
    assert policy.fan_outs == [8, 4, 2, round(8 / 8 / 0.75**0.5)]
    assert policy.max_fan == 1 + 8


def test_a_likely_chain_spends_most_of_its_fan_out_on_its_end():
    policy = SSD(fan_out=2, acceptance=0.96, power=1.0, gamma=4)
    assert policy.fan_outs == [2, 2, 2, 2, 9]
    assert policy.max_fan == 9


def test_after_a_miss_it_drafts_a_short_chain_before_the_target_starts():
    draft = Draft(SSD(**HALVING, gamma=4, backup=2))
    assert draft.grow(busy=False) == [1, 1]
    assert draft.fans(draft.submit()) == [1 + 8, 1 + 4, 0]
    assert Draft(SSD(backup=0)).grow(busy=False) == []


def test_branches_leave_the_submitted_chain_at_every_position_and_grow_by_one_a_step():
    draft = Draft(SSD(**HALVING, gamma=2, backup=2))
    draft.grow(busy=False)
    chain = draft.submit()
    assert draft.grow(busy=True) == [8 + 4 + 1, 8 + 4 + 2, 2]
    children = [child for node in chain for child in draft.tree.children(node)]
    branches = [child for child in children if child not in chain]
    assert len(branches) == 8 + 4 + 2
    assert all(len(draft.tree.main_line(branch)) == 1 + 2 for branch in branches)


def test_the_branch_that_was_right_is_submitted_at_once():
    policy = SSD(**HALVING, gamma=2, backup=2)
    draft = Draft(policy)
    draft.grow(busy=False)
    draft.submit()
    draft.grow(busy=True)
    draft.win(draft.tree.children(0)[5])
    policy.observe(outcome(hit=True))
    assert draft.grow(busy=False) == []
    assert draft.fans(draft.submit()) == [1 + 8, 1 + 4, 0]


@pytest.mark.parametrize(
    "options",
    [{"fan_out": 0}, {"gamma": 0}, {"acceptance": 1.0}, {"power": -0.5}, {"backup": -1}],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}: expected"):
        SSD(**options)
