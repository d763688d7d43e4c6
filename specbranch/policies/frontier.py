"""The likeliest nodes of a tree, without walking all of it."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush

from specbranch.tree import Node, SpeculationTree


class _LikeliestFirst:
    """A heap of nodes by estimate; equals come out in the order in which they came in."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Node]] = []
        self._pushed = 0

    def __bool__(self) -> bool:
        return bool(self._heap)

    def push(self, node: Node) -> None:
        heappush(self._heap, (-node.estimate, self._pushed, node))
        self._pushed += 1

    def pop(self) -> Node:
        return heappop(self._heap)[2]


def likeliest(root: Node) -> Iterator[Node]:
    """The nodes that could be submitted, likeliest first, each after its parent: estimates never
    grow along a path."""
    reachable = _LikeliestFirst()
    reachable.push(root)
    while reachable:
        node = reachable.pop()
        yield node
        for child in node.children:
            if not child.terminal:
                reachable.push(child)


class Frontier:
    """The nodes that could be expanded, likeliest first.

    It follows the tree by itself: the tree grew where nodes were handed out. Re-rooting drops nodes
    and rescales estimates, so a new root needs a new frontier.
    """

    def __init__(self, tree: SpeculationTree) -> None:
        self.root = tree.root
        self._nodes = _LikeliestFirst()
        self._handed_out: list[Node] = []
        for node in tree.frontier():
            self._nodes.push(node)

    def best(self, count: int) -> list[Node]:
        """The `count` likeliest nodes, or all if there are fewer."""
        for node in self._handed_out:
            for candidate in node.children or (node,):
                if candidate.expandable:
                    self._nodes.push(candidate)
        self._handed_out = []
        while self._nodes and len(self._handed_out) < count:
            self._handed_out.append(self._nodes.pop())
        return self._handed_out
