"""How H-RAD's evidence changes what best-first growth expects."""

import pytest

from bench.hrad_prior import WithPrior, reweigh
from specbranch.policies.base import Outcome, Outlook
from specbranch.tree import Node, SpeculationTree


def grown_tree() -> SpeculationTree:
    """A root with two guesses, and one more below the first of them."""
    tree = SpeculationTree(0)
    first, second = (Node(t, tree.root, estimate=e, depth=1) for t, e in ((1, 0.6), (2, 0.3)))
    first.children = [Node(3, first, estimate=0.5, depth=2)]
    tree.root.children = [first, second]
    tree.root.slot = first.slot = 0
    return tree


def test_evidence_scales_the_odds_and_keeps_what_lies_below_in_proportion():
    tree = grown_tree()
    reweigh(tree, evidence=2.0)
    first, second = tree.root.children
    assert (1 - first.estimate) / first.estimate == pytest.approx(2 * 0.4 / 0.6)
    assert first.children[0].estimate / first.estimate == pytest.approx(0.5 / 0.6)
    assert second.estimate / (1 - first.estimate) == pytest.approx(0.3 / 0.4)


def test_an_outlook_as_usual_changes_nothing_and_a_worse_one_does_once():
    policy = WithPrior(rows_draft=1, rows_target=4, weight=1.0, rate=0.4)
    tree = grown_tree()
    for nothing, expected in ((0.4, 0.6), (0.8, 0.2), (None, 0.2)):
        outlook = None if nothing is None else Outlook(nothing, 1 - nothing, 0.0)
        policy.observe(Outcome(True, 1, 3, 8.0, outlook=outlook))
        policy.grow(tree, True, 0)
        policy.grow(tree, True, 1)
        assert tree.root.children[0].estimate == pytest.approx(expected)
