from __future__ import annotations

import pytest

from specbranch.tree import Node, SpeculationTree, require_connected


def grow(parent: Node, *tokens: int, estimate: float = 0.5) -> list[Node]:
    parent.slot = 0
    for rank, token in enumerate(tokens):
        parent.children.append(
            Node(
                token,
                parent,
                estimate=parent.estimate * estimate,
                on_main_line=parent.on_main_line and rank == 0,
                depth=parent.depth + 1,
            )
        )
    return parent.children


def test_walk_visits_parents_first_and_siblings_in_rank_order():
    tree = SpeculationTree(0)
    first, second = grow(tree.root, 1, 2)
    grow(first, 3, 4)
    grow(second, 5)
    assert [node.token for node in tree.walk()] == [0, 1, 3, 4, 2, 5]
    assert [node.token for node in tree.main_line()] == [0, 1, 3]
    assert [node.token for node in tree.frontier()] == [3, 4, 5]


def test_terminal_nodes_are_never_on_the_frontier():
    tree = SpeculationTree(0)
    first, second = grow(tree.root, 1, 2)
    first.terminal = True
    assert tree.frontier() == [second]


def test_reroot_at_a_winner_keeps_its_subtree_relative_to_it():
    tree = SpeculationTree(0)
    first, second = grow(tree.root, 1, 2, estimate=0.5)
    (below,) = grow(second, 5, estimate=0.25)
    dropped = tree.reroot(second, 2)
    assert tree.root is second
    assert second.parent is None
    assert (second.depth, below.depth) == (0, 1)
    assert (second.estimate, below.estimate) == (1.0, 0.25)
    assert second.on_main_line
    assert below.on_main_line
    assert [node.token for node in dropped] == [0, 1]
    assert first in dropped


def test_reroot_after_a_miss_starts_afresh():
    tree = SpeculationTree(0)
    grow(tree.root, 1, 2)
    dropped = tree.reroot(None, 9)
    assert (tree.root.token, tree.root.children, tree.root.expanded) == (9, [], False)
    assert [node.token for node in dropped] == [0, 1, 2]


def test_a_submission_must_be_a_subtree_at_the_root():
    tree = SpeculationTree(0)
    first, second = grow(tree.root, 1, 2)
    (below,) = grow(first, 3)
    require_connected(tree.root, [tree.root, first, below, second])
    for nodes in ([], [first], [tree.root, below], [tree.root, first, first]):
        with pytest.raises(ValueError, match="submit"):
            require_connected(tree.root, nodes)
