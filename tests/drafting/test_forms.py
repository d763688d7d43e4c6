"""What forms say of a tree."""

from __future__ import annotations

import numpy as np
import pytest

from specbranch._C import Reliability, Tree
from specbranch.drafting import Chain, Subtree
from specbranch.drafting.forms import said


@pytest.fixture
def tree() -> Tree:
    """1 -> 2 (0.6), 3 (0.3); 2 -> 4 (0.5), 5 (0.4); 3 -> 6 (0.9); 4 -> 7, which ends the text."""
    tree = Tree(1, ends=[7])
    grown = (
        (0, [2, 3], [0.6, 0.3]),
        (1, [4, 5], [0.5, 0.4]),
        (2, [6, 8], [0.9, 0.05]),
        (3, [7, 9], [0.9, 0.05]),
    )
    reliability = Reliability()
    for node, tokens, chances in grown:
        tree.expand(
            [node],
            np.array([tokens], np.int32),
            np.array([chances], np.float32),
            np.array(chances[:1], np.float32),
            np.zeros(1, np.float32),
            0,
            reliability,
        )
        tree.attach([2])
    return tree


def test_a_chain_follows_first_guesses_and_stops_before_an_end(tree):
    assert said(tree, 0, Chain(5))[:2] == ([2, 4], [-1, 0])
    assert said(tree, 0, Chain(1)).tokens == [2]


def test_chances_are_those_below_the_branch_that_came_true(tree):
    whole, branch = said(tree, 0, Chain(5)), said(tree, 2, Chain(5))
    assert branch.tokens == [6]
    assert branch.chances[0] > whole.chances[1]


def test_a_chain_stops_where_it_is_unlikely(tree):
    chances = said(tree, 0, Chain(5)).chances
    least = (chances[0] + chances[1]) / 2
    assert said(tree, 0, Chain(5, least=least)).tokens == [2]
    assert said(tree, 0, Subtree(5, least=1.0)).tokens == []


def test_a_subtree_is_the_likeliest_nodes_behind_their_parents(tree):
    answer = said(tree, 0, Subtree(5))
    assert len(answer.tokens) == 5
    assert set(answer.tokens[:4]) == {2, 3, 4, 6}
    assert answer.chances == sorted(answer.chances, reverse=True)
    by_place = dict(enumerate(answer.tokens))
    parents = {by_place[at]: by_place.get(up, 1) for at, up in enumerate(answer.parents)}
    assert {2: 1, 3: 1, 4: 2, 6: 3}.items() <= parents.items()
    assert all(parent < place for place, parent in enumerate(answer.parents))


@pytest.mark.parametrize("form", [Chain, Subtree])
def test_bad_forms(form):
    with pytest.raises(ValueError, match="max_tokens: expected an integer >= 1, got 0"):
        form(0)
    with pytest.raises(ValueError, match=r"least: expected a number in \[0, 1\], got 2"):
        form(1, least=2)
