"""Policies are tested with plain numbers: no model, no tensor, no lane."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from specbranch.policies import (
    PEARL,
    POLICIES,
    AdaEDL,
    Autoregressive,
    BestFirst,
    Policy,
    SpecBranch,
    SpeculativeSampling,
    make_policy,
)
from specbranch.policies.base import Outlook
from tests.engine.pretended import Draft, outcome


def test_autoregressive_never_drafts():
    draft = Draft(Autoregressive())
    assert draft.grow(busy=False) == draft.grow(busy=True) == []
    assert draft.submit() == [0]


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
    policy = AdaEDL(gamma=4, threshold=0.5)
    for _ in range(5):
        policy.observe(outcome(hit=True, accepted=3, submitted=3))
    assert policy.threshold < 0.5


def test_pearl_drafts_gamma_tokens_per_target_forward():
    draft = Draft(PEARL(gamma=3))
    assert draft.grow(busy=False) == []
    assert draft.submit() == [0]
    assert draft.grow(busy=True) == [1, 1, 1]
    assert len(draft.submit()) == 4
    assert draft.grow(busy=True) == [1, 1, 1]
    assert len(draft.tree.main_line()) == 7


def test_specbranch_draft_stage_ends_at_the_branch_point():
    draft = Draft(SpecBranch(k_max=4, gamma=6, epsilon=0.5), confidence=(0.9, 0.9, 0.3))
    assert draft.grow(busy=False) == [1, 1, 1]
    *chain, first_candidate = draft.submit()
    assert draft.tree.depth[chain].tolist() == [0, 1, 2]
    candidates = draft.tree.children(chain[-1])
    assert len(candidates) == 2  # max(1, floor(4 * (1 - 0.3)))
    assert first_candidate == candidates[0]


def test_specbranch_draft_stage_ends_when_the_target_is_not_worth_keeping_waiting():
    policy = SpecBranch(gamma=6, epsilon=0.5)
    policy.observe(outcome(hit=False)._replace(cost_ratio=20.0))
    assert Draft(policy).grow(busy=False) == [1] * 6
    policy.observe(outcome(hit=False)._replace(cost_ratio=2.2))
    assert Draft(policy).grow(busy=False) == [1] * 2  # 0.9 * 0.9 * 2.2 < 1 + 0.9 + 0.9 * 0.9


def test_specbranch_grows_every_branch_by_one_a_step():
    draft = Draft(SpecBranch(k_max=4, gamma=3, epsilon=0.5), confidence=(0.9, 0.2, 0.9))
    draft.grow(busy=False)
    branches = draft.tree.children(draft.submit()[-2])
    assert len(branches) == 3
    assert draft.grow(busy=True) == [3, 3, 3]
    assert [len(draft.tree.main_line(branch)) for branch in branches] == [4, 4, 4]


def test_specbranch_branches_end_at_branch_points_of_their_own():
    draft = Draft(SpecBranch(k_max=4, gamma=3, epsilon=0.5), confidence=(0.9, 0.2, 0.9, 0.4))
    draft.grow(busy=False)
    branches = draft.tree.children(draft.submit()[-2])
    assert draft.grow(busy=True) == [3, 3]
    chains = [draft.tree.main_line(branch) for branch in branches]
    assert [len(chain) for chain in chains] == [3, 3, 3]
    assert draft.fans([chain[1] for chain in chains]) == [2, 2, 2]


def test_specbranch_expands_an_unexpanded_branch_point_first():
    draft = Draft(SpecBranch(k_max=4, gamma=2, epsilon=0.5), confidence=(0.9, 0.9, 0.6))
    draft.grow(busy=False)
    assert draft.tree.expandable(draft.submit()[-1])
    assert draft.grow(busy=True) == [1, 1, 1]


def survivor(policy: SpecBranch, confidence: Sequence[float], steps: int = 100) -> Draft:
    """A draft whose first branch at the root has just won."""
    draft = Draft(policy, confidence)
    draft.grow(busy=False)
    draft.submit()
    draft.grow(busy=True, steps=steps)
    draft.win(draft.tree.children(0)[0])
    policy.observe(outcome(hit=True))
    return draft


def test_specbranch_continues_a_surviving_chain_that_is_still_short():
    draft = survivor(SpecBranch(k_max=2, gamma=3, epsilon=0.5), (0.2, 0.9), steps=1)
    assert draft.tree.main_line() == [0, 1]
    assert draft.grow(busy=False) == [1, 1]
    assert len(draft.submit()) == 4


def test_specbranch_has_the_survivors_branch_point_where_the_outlook_says():
    policy = SpecBranch(k_max=2, gamma=5, epsilon=0.5)
    draft = survivor(policy, (0.2, 0.9, 0.9, 0.4, 0.9))
    assert draft.grow(busy=False) == []
    chances = draft.tree.first_chance[draft.submit()[:-1]]
    assert chances == pytest.approx([0.9, 0.9, 0.4])
    policy.observe(outcome(hit=True)._replace(outlook=Outlook(0.5, 0.4, 0.1)))
    assert draft.submit() == [0]
    policy.observe(outcome(hit=True)._replace(outlook=Outlook(0.3, 0.4, 0.3)))
    assert draft.grow(busy=False) == []
    policy.observe(outcome(hit=False)._replace(outlook=Outlook(0.1, 0.4, 0.5)))
    assert draft.grow(busy=False) == []
    everything = outcome(hit=True)._replace(cost_ratio=40.0, outlook=Outlook(0.1, 0.4, 0.5))
    policy.observe(everything)
    assert draft.grow(busy=False) == [1, 1]
    assert len(draft.submit()) == 6


def test_specbranch_drafts_no_chain_where_only_the_root_is_submitted():
    policy = SpecBranch(k_max=2, gamma=5, epsilon=0.5)
    policy.observe(outcome(hit=True)._replace(outlook=Outlook(0.5, 0.4, 0.1)))
    draft = Draft(policy, (0.2, 0.9))
    assert draft.grow(busy=False) == []
    assert draft.submit() == [0]
    assert draft.grow(busy=True, steps=2) == [1, 1]


def test_best_first_grows_where_the_probability_is():
    draft = Draft(BestFirst(rows_draft=2, rows_target=5, fan=2), confidence=(0.5, 0.9))
    draft.submit()
    for step in range(4):
        nodes = draft.policy.grow(draft.tree, True, step)
        assert len(nodes) == (2 if step else 1)
        assert nodes == draft.tree.frontier(len(nodes))
        draft.expand(nodes)


def test_best_first_submits_the_likeliest_connected_subtree():
    draft = Draft(BestFirst(rows_draft=4, rows_target=6, fan=3), confidence=(0.6,))
    draft.grow(busy=True, steps=4)
    assert draft.submit() == draft.tree.likeliest(6)


def test_best_first_gives_a_node_as_many_children_as_can_be_likely_enough():
    draft = Draft(BestFirst(fan=5, min_estimate=0.1), confidence=(0.75, 0.5, 0.95))
    draft.expand([0])
    assert draft.fans([0]) == [1 + 2]  # 0.25 / 0.1
    draft.expand([2, 1])
    assert draft.fans([2, 1]) == [1, 1 + 3]  # 0.125 * 0.5 / 0.1 and 0.75 * 0.5 / 0.1
    draft = Draft(BestFirst(fan=5, min_estimate=1e-300), confidence=(0.75,))
    draft.expand([0])
    assert draft.fans([0]) == [5]


def test_best_first_drafts_before_the_target_only_when_that_pays():
    cheap, dear = BestFirst(cost_ratio=20.0), BestFirst(cost_ratio=0.5)
    assert len(Draft(cheap).grow(busy=False, steps=20)) > 2
    assert Draft(dear).grow(busy=False) == []
    for _ in range(50):
        dear.observe(outcome(hit=True))
    assert dear.cost_ratio == pytest.approx(5.0, abs=0.1)


@pytest.mark.parametrize(("policy", "at_first"), [(PEARL, 4), (SpecBranch, 8)])
def test_chains_follow_the_measured_costs_unless_told_their_length(policy, at_first):
    pattern = policy()
    first = pattern.begin()
    assert (first.gamma, first.length) == (0, at_first)
    for cost_ratio, length in ((11.4, 11), (0.0, 11), (0.3, 1), (6.5001, 7)):
        first.observe(outcome(hit=True)._replace(cost_ratio=cost_ratio))
        assert first.length == length
    assert pattern.begin().length == pattern.length == 7
    assert pattern.fresh().length == at_first
    fresh = pattern.fresh()
    fresh.observe(outcome(hit=True)._replace(cost_ratio=20.0))
    assert (fresh.length, pattern.length) == (20, 7)
    told = policy(gamma=3)
    told.observe(outcome(hit=True)._replace(cost_ratio=11.4))
    assert (told.gamma, told.length) == (3, 3)


def test_pearl_drafts_as_much_as_fits_beside_the_target():
    draft = Draft(PEARL())
    draft.submit()
    draft.policy.observe(outcome(hit=False)._replace(cost_ratio=6.2))
    assert draft.grow(busy=True) == [1] * 6
    assert len(draft.submit()) == 7


def played(policy: Policy, confidence: Sequence[float]) -> list[object]:
    """What a policy grows and submits in three rounds of a request."""
    draft, story = Draft(policy, confidence), []
    for hit in (True, False, True):
        story += [draft.grow(busy=False, steps=9), draft.submit(), draft.grow(busy=True, steps=9)]
        draft.policy.observe(outcome(hit)._replace(outlook=Outlook(0.1, 0.7, 0.2)))
        if hit and draft.tree.children(0):
            draft.win(draft.tree.children(0)[-1])
        else:
            draft.tree.reroot([0], -1, 7)
    return story


@pytest.mark.parametrize("name", POLICIES)
def test_a_request_leaves_nothing_of_its_own_behind(name):
    pattern = make_policy(name)
    first = pattern.fresh()
    expected = played(first, (0.9, 0.6, 0.3))
    assert played(pattern.fresh(), (0.9, 0.6, 0.3)) == expected
    interrupted = first.begin()
    interrupted.grow(Draft(first).tree, False, 0)
    assert played(first.fresh(), (0.9, 0.6, 0.3)) == expected


def test_policies_are_made_by_name():
    assert {name: type(make_policy(name)) for name in POLICIES} == POLICIES
    assert make_policy("sps", gamma=7).gamma == 7
    with pytest.raises(ValueError, match=r"method: expected one of ar, sps, .*, or module:Class"):
        make_policy("medusa")


class Greedy(SpeculativeSampling):
    def __init__(self, gamma: int = 2, *, eager: bool = False, **more: int) -> None:
        super().__init__(gamma)
        self.eager = eager


def test_policies_come_from_elsewhere():
    name = f"{__name__}:Greedy"
    policy = make_policy(name, gamma=3, eager=True)
    assert type(policy) is Greedy
    assert (policy.name, policy.gamma, policy.eager) == (name, 3, True)
    assert Greedy.name == "sps"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nowhere.at_all:Policy", {}, "'nowhere.at_all:Policy' cannot be imported: No module"),
        ("math:Policy", {}, "'math:Policy' cannot be imported: .*no attribute 'Policy'"),
        (":Policy", {}, "':Policy' cannot be imported"),
        ("math:sqrt", {}, "subclass of Policy, got 'math:sqrt', which is <built-in"),
        ("decimal:Decimal", {}, "subclass of Policy, got 'decimal:Decimal'"),
        (f"{__name__}:Greedy", {"gamma": 0}, f"{__name__}:Greedy: gamma: expected"),
        (f"{__name__}:Greedy", {"speed": 1}, rf"speed: expected an option of {__name__}:Greedy"),
        (f"{__name__}:Draft", {}, "subclass of Policy"),
    ],
)
def test_what_is_no_policy_is_refused_by_name(name, options, message):
    with pytest.raises(ValueError, match=message):
        make_policy(name, **options)


def test_a_constructor_that_breaks_is_named():
    class Broken(SpeculativeSampling):
        def __init__(self, gamma: int = 1) -> None:
            super().__init__(gamma, 1)

    globals()["Broken"] = Broken
    with pytest.raises(ValueError, match=r"Broken: .*positional argument"):
        make_policy(f"{__name__}:Broken")


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
