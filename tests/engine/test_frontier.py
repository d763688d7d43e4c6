from __future__ import annotations

from itertools import islice

from hypothesis import given, settings
from hypothesis import strategies as st

from specbranch.policies.frontier import Frontier, likeliest
from specbranch.tree import Node, SpeculationTree


def attach(node: Node, chances: list[float]) -> None:
    node.slot = 0
    for token, chance in enumerate(chances):
        child = Node(token, node, estimate=node.estimate * chance, depth=node.depth + 1)
        child.terminal = token == 3
        node.children.append(child)


LAWS = st.lists(st.lists(st.floats(0, 0.5), max_size=5), min_size=1, max_size=30)


@settings(deadline=None, max_examples=50)
@given(laws=LAWS, count=st.integers(1, 4))
def test_a_frontier_hands_out_what_a_walk_over_the_tree_finds(laws, count):
    tree = SpeculationTree(0)
    frontier = Frontier(tree)
    while laws:
        best = frontier.best(count)
        everywhere = sorted((node.estimate for node in tree.frontier()), reverse=True)
        assert [node.estimate for node in best] == everywhere[:count]
        for node in best[: len(best) - len(laws) % 2]:  # not all need to be expanded
            attach(node, laws.pop() if laws else [])
        if not best or len(best) == len(laws) % 2:
            laws = laws[:-1]


@settings(deadline=None, max_examples=50)
@given(laws=LAWS, count=st.integers(1, 12))
def test_the_likeliest_nodes_are_a_subtree_and_no_other_is_likelier(laws, count):
    tree = SpeculationTree(0)
    for law in laws:
        frontier = tree.frontier()
        if not frontier:
            break
        attach(frontier[len(law) % len(frontier)], law)
    rows = list(islice(likeliest(tree.root), count))
    assert rows[0] is tree.root
    assert all(node.parent in rows[:place] for place, node in enumerate(rows) if place)
    others = [node for node in tree.walk() if node not in rows and not node.terminal]
    if others:
        assert len(rows) == count
        assert min(node.estimate for node in rows) >= max(node.estimate for node in others)
