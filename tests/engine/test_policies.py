"""Policies are tested with plain numbers: no model, no tensor, no lane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from specbranch.policies import (
    PEARL,
    POLICIES,
    AdaEDL,
    Autoregressive,
    BestFirst,
    SpecBranch,
    SpeculativeSampling,
    make_policy,
)
from specbranch.policies.base import Outlook
from tests.engine.pretended import Draft, outcome


def test_autoregressive_never_drafts():
    draft = Draft(Autoregressive())
    assert draft.grow(busy=False) == draft.grow(busy=True) == []
    assert draft.submit() == [draft.tree.root]


def test_sps_drafts_a_chain_of_gamma_while_the_target_idles():
    draft = Draft(SpeculativeSampling(gamma=3))
    assert draft.policy.stretch(draft.tree, False, 0) == 3
    assert draft.grow(busy=False, steps=1) == [1]
    assert draft.policy.stretch(draft.tree, False, 1) == 2
    assert draft.grow(busy=False) == [1, 1]
    assert len(draft.submit()) == 4
    assert draft.grow(busy=True) == []


def test_adaedl_ends_the_chain_at_an_entropy_above_its_threshold():
    policy = AdaEDL(gamma=8, threshold=0.5)
    draft = Draft(policy, confidence=(0.9, 0.9, 0.1))
    assert policy.stretch(draft.tree, False, 0) == 1
    assert draft.grow(busy=False) == [1, 1, 1]
    assert len(draft.submit()) == 4


def test_adaedl_raises_its_threshold_when_guesses_fail_and_lowers_it_when_they_hold():
    policy = AdaEDL(gamma=4, threshold=0.5)
    for _ in range(5):
        policy.observe(outcome(hit=False, accepted=0))
    assert policy.threshold > 0.5
    policy.begin()
    for _ in range(5):
        policy.observe(outcome(hit=True, accepted=3, submitted=3))
    assert policy.threshold < 0.5


def test_pearl_drafts_gamma_tokens_per_target_forward():
    draft = Draft(PEARL(gamma=3))
    assert draft.grow(busy=False) == []
    assert draft.submit() == [draft.tree.root]
    assert draft.grow(busy=True) == [1, 1, 1]
    assert len(draft.submit()) == 4
    assert draft.grow(busy=True) == [1, 1, 1]
    assert len(draft.tree.main_line()) == 7


def test_specbranch_draft_stage_ends_at_the_branch_point():
    draft = Draft(SpecBranch(k_max=4, gamma=6, epsilon=0.5), confidence=(0.9, 0.9, 0.3))
    assert draft.grow(busy=False) == [1, 1, 1]
    *chain, first_candidate = draft.submit()
    assert [node.depth for node in chain] == [0, 1, 2]
    assert len(chain[-1].children) == 2  # max(1, floor(4 * (1 - 0.3)))
    assert first_candidate is chain[-1].children[0]


def test_specbranch_draft_stage_ends_when_the_target_is_not_worth_keeping_waiting():
    policy = SpecBranch(gamma=6, epsilon=0.5)
    policy.observe(replace(outcome(hit=False), cost_ratio=20.0))
    assert Draft(policy).grow(busy=False) == [1] * 6
    policy.observe(replace(outcome(hit=False), cost_ratio=2.2))
    assert Draft(policy).grow(busy=False) == [1] * 2  # 0.9 * 0.9 * 2.2 < 1 + 0.9 + 0.9 * 0.9


def test_specbranch_grows_every_branch_by_one_a_step():
    draft = Draft(SpecBranch(k_max=4, gamma=3, epsilon=0.5), confidence=(0.9, 0.2, 0.9))
    draft.grow(busy=False)
    branch_point = draft.submit()[-2]
    assert len(branch_point.children) == 3
    assert draft.grow(busy=True) == [3, 3, 3]
    assert all(len(branch.first_choices()) == 4 for branch in branch_point.children)


def test_specbranch_branches_end_at_branch_points_of_their_own():
    draft = Draft(SpecBranch(k_max=4, gamma=3, epsilon=0.5), confidence=(0.9, 0.2, 0.9, 0.4))
    draft.grow(busy=False)
    branch_point = draft.submit()[-2]
    assert draft.grow(busy=True) == [3, 3]
    assert all(len(branch.first_choices()) == 3 for branch in branch_point.children)
    assert all(len(branch.children[0].children) == 2 for branch in branch_point.children)


def test_specbranch_expands_an_unexpanded_branch_point_first():
    draft = Draft(SpecBranch(k_max=4, gamma=2, epsilon=0.5), confidence=(0.9, 0.9, 0.6))
    draft.grow(busy=False)
    assert not draft.submit()[-1].expanded
    assert draft.grow(busy=True) == [1, 1, 1]


def survivor(policy: SpecBranch, confidence: Sequence[float]) -> Draft:
    """A draft whose first branch at the root has just won."""
    draft = Draft(policy, confidence)
    draft.grow(busy=False)
    draft.submit()
    draft.grow(busy=True)
    winner = draft.tree.root.children[0]
    draft.tree.reroot(winner, winner.token)
    policy.observe(outcome(hit=True))
    return draft


def test_specbranch_continues_a_surviving_chain_that_is_still_short():
    draft = survivor(SpecBranch(k_max=2, gamma=3, epsilon=0.5), (0.2, 0.9, 0.9, 0.9, 0.9))
    draft.tree.root.children[0].children.clear()
    draft.tree.root.children[0].slot = -1
    assert draft.grow(busy=False) == [1, 1]
    assert len(draft.submit()) == 4


def test_specbranch_has_the_survivors_branch_point_where_the_outlook_says():
    policy = SpecBranch(k_max=2, gamma=5, epsilon=0.5)
    draft = survivor(policy, (0.2, 0.9, 0.9, 0.4, 0.9))
    assert draft.grow(busy=False) == []
    assert [node.confidence for node in draft.submit()[:-1]] == [0.9, 0.9, 0.4]
    policy.observe(replace(outcome(hit=True), outlook=Outlook(0.5, 0.4, 0.1)))
    assert draft.submit() == [draft.tree.root]
    policy.observe(replace(outcome(hit=True), outlook=Outlook(0.3, 0.4, 0.3)))
    assert draft.grow(busy=False) == []
    policy.observe(replace(outcome(hit=False), outlook=Outlook(0.1, 0.4, 0.5)))
    assert draft.grow(busy=False) == []
    everything = replace(outcome(hit=True), cost_ratio=40.0, outlook=Outlook(0.1, 0.4, 0.5))
    policy.observe(everything)
    assert draft.grow(busy=False) == [1, 1]
    assert len(draft.submit()) == 6


def test_specbranch_drafts_no_chain_where_only_the_root_is_submitted():
    policy = SpecBranch(k_max=2, gamma=5, epsilon=0.5)
    policy.observe(replace(outcome(hit=True), outlook=Outlook(0.5, 0.4, 0.1)))
    draft = Draft(policy, (0.2, 0.9))
    assert draft.grow(busy=False) == []
    assert draft.submit() == [draft.tree.root]
    assert draft.grow(busy=True, steps=2) == [1, 1]


def test_best_first_grows_where_the_probability_is():
    draft = Draft(BestFirst(rows_draft=2, rows_target=5, fan=2), confidence=(0.5, 0.9))
    draft.submit()
    for step in range(4):
        nodes = draft.policy.grow(draft.tree, True, step)
        others = [node for node in draft.tree.frontier() if node not in nodes]
        assert len(nodes) == (2 if step else 1)
        assert min(n.estimate for n in nodes) >= max((n.estimate for n in others), default=0)
        draft.expand(nodes)


def test_best_first_submits_the_likeliest_connected_subtree():
    draft = Draft(BestFirst(rows_draft=4, rows_target=6, fan=3), confidence=(0.6,))
    draft.grow(busy=True, steps=4)
    rows = draft.submit()
    assert len(rows) == 6
    assert all(node is draft.tree.root or node.parent in rows[: rows.index(node)] for node in rows)
    others = [node for node in draft.tree.walk() if node not in rows]
    assert min(node.estimate for node in rows) >= max(node.estimate for node in others)


def test_best_first_drafts_before_the_target_only_when_that_pays():
    cheap, dear = BestFirst(cost_ratio=20.0), BestFirst(cost_ratio=0.5)
    assert len(Draft(cheap).grow(busy=False, steps=20)) > 2
    assert Draft(dear).grow(busy=False) == []
    for _ in range(50):
        dear.observe(outcome(hit=True))
    assert dear.cost_ratio > 4.9
    dear.begin()
    assert dear.cost_ratio == 0.5
    for _ in range(50):
        dear.observe(outcome(hit=True))
    assert dear.cost_ratio == pytest.approx(5.0, abs=0.1)


def test_policies_are_made_by_name():
    assert {name: type(make_policy(name)) for name in POLICIES} == POLICIES
    assert make_policy("sps", gamma=7).gamma == 7
    with pytest.raises(ValueError, match="method: expected one of ar, sps"):
        make_policy("medusa")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sps", {"gamma": 0}),
        ("sps", {"gamma": 2.5}),
        ("sps", {"gamma": "4"}),
        ("adaedl", {"threshold": float("nan")}),
        ("adaedl", {"target_acceptance": 7}),
        ("bestfirst", {"cost_ratio": -1}),
        ("pearl", {"gamma": 0}),
        ("specbranch", {"k_max": 0}),
        ("specbranch", {"epsilon": 1.5}),
        ("bestfirst", {"rows_draft": 0}),
    ],
)
def test_options_out_of_range_are_refused_by_name(name, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        make_policy(name, **options)
