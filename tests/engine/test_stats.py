"""Counts of walks done by hand, and many requests as one."""

from __future__ import annotations

import pytest

from specbranch.costs.model import CostModel
from specbranch.engine import Engine
from specbranch.lanes import VirtualLanes
from specbranch.policies import make_policy
from specbranch.sampling import SamplingParams
from specbranch.stats import Stats
from specbranch.tree import Tree, Walk
from tests.engine import tiny
from tests.tree.grown import grow


def test_guesses_are_counted_by_their_depth():
    stats, tree = Stats(), Tree(0)
    first, _ = grow(tree, 0, [1, 2])
    _, second = grow(tree, first, [3, 4])
    stats.count_walk(tree, Walk([0, first], [0, 1], 4, second), committed=2)
    rest = Tree(0)
    grow(rest, 0, [5])
    stats.count_walk(rest, Walk([0], [0], 7, -1), committed=1)
    stats.count_walk(Tree(6), Walk([0], [0], 7, -1), committed=1)  # nothing was guessed
    assert (stats.tested_at, stats.accepted_at) == ([2, 1], [1, 0])
    assert (stats.tested, stats.tested_accepted) == (3, 1)
    assert stats.acceptance_by_position == [0.5, 0.0]
    assert (stats.accepted_main, stats.accepted_branch, stats.hits) == (1, 1, 1)
    assert (stats.tokens, stats.target_forwards, stats.accepted_lengths) == (4, 3, [2, 1, 1])
    assert stats.origins == ["accepted", "won", "missed", "missed"]


def test_guesses_in_target_forwards_are_counted_with_those_that_it_took():
    stats, tree = Stats(), Tree(0)
    first, _ = grow(tree, 0, [1, 2])
    (second,) = grow(tree, first, [3])
    tree.submit([0, first, second], max_rows=8)
    stats.count_walk(tree, Walk([0, first, second], [0, 1, 2], 4, -1), committed=3)
    stats.count_walk(tree, Walk([0, first, second], [0, 1, 2], 4, -1), committed=1)
    stats.count_walk(tree, Walk([0], [0], 2, 2), committed=1)  # a guess that was not submitted
    assert (stats.drafts, stats.submitted, stats.submitted_accepted) == (3, 6, 3)
    plain = Tree(6)
    plain.submit([0], max_rows=8)
    stats.count_walk(plain, Walk([0], [0], 7, -1), committed=1)
    assert (stats.drafts, stats.submitted, stats.submitted_accepted) == (3, 6, 3)


def test_guesses_beyond_the_end_of_a_request_are_not_counted():
    stats, tree = Stats(), Tree(0)
    (child,) = grow(tree, 0, [1])
    (grandchild,) = grow(tree, child, [2])
    walk = Walk([0, child], [0, 1], 2, grandchild)
    stats.count_walk(tree, walk, committed=1)
    assert (stats.tested_at, stats.accepted_at) == ([1], [1])
    assert stats.hits == 0
    assert stats.origins == ["accepted"]
    stats.count_walk(tree, walk, committed=2)
    assert stats.hits == 1
    assert stats.origins == ["accepted", "accepted", "won"]


def test_pooled_stats_are_those_of_one_long_request():
    parts = [
        Stats(
            wall_s=1.0,
            tokens=6,
            target_forwards=2,
            overlap=0.5,
            draft_busy_s=3.0,
            cost_ratio=4.0,
            accepted_lengths=[4, 2],
            tested_at=[2, 1],
            accepted_at=[1, 1],
        ),
        Stats(wall_s=2.0, tokens=3, target_forwards=3, draft_busy_s=1.0, cost_ratio=2.0),
    ]
    parts[1].accepted_lengths, parts[1].tested_at, parts[1].accepted_at = [1, 1, 1], [3], [1]
    total = Stats.pooled(parts)
    assert (total.wall_s, total.tokens, total.target_forwards) == (3.0, 9, 5)
    assert total.mean_accepted_length == pytest.approx(9 / 5)
    assert total.overlap == pytest.approx(0.5 * 3 / 4)
    assert Stats.pooled([*parts, Stats()]).cost_ratio == pytest.approx(3.0)  # it never drafted
    assert total.cost_ratio == 3.0
    assert total.accepted_lengths == [4, 2, 1, 1, 1]
    assert (total.tested_at, total.accepted_at) == ([5, 1], [2, 1])
    assert Stats.pooled([Stats(tokens=2)]).overlap == 0.0
    with pytest.raises(ValueError, match="parts: expected the stats of at least one request"):
        Stats.pooled([])


def test_the_pace_is_that_of_what_follows_the_first_tokens():
    """Under a virtual clock, where plain decoding's every token takes one target forward."""
    with Engine(
        tiny.pair(), make_policy("ar"), lanes=VirtualLanes(CostModel.parse("virtual:c=4"))
    ) as engine:
        stats = engine.generate([1, 2, 3], SamplingParams(max_new_tokens=9)).stats
    assert stats.first_token_s == pytest.approx(stats.wall_s - 8 * 4)
    assert stats.pace == pytest.approx(1 / 4)
    assert Stats(tokens=1, wall_s=2.0, first_token_s=2.0, accepted_lengths=[1]).pace == 0.0
