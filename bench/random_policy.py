"""A policy that acts at random: no method's habits can hide what it would find."""

from __future__ import annotations

import random
from collections.abc import Sequence

from specbranch._C import Tree
from specbranch.policies import Policy


class RandomPolicy(Policy):
    """Grows and submits at random: whatever it does, the output must stay the same.

    Its choices look at the tree's shape only, so it is legal under the rejection coupling too.
    """

    name = "random"
    overlaps = True
    max_fan = 4

    def __init__(self, seed: int = 1) -> None:
        self.seed = seed

    def begin(self) -> RandomPolicy:
        policy = super().begin()
        policy.random = random.Random(self.seed)
        return policy

    def grow(self, tree: Tree, busy: bool, step: int) -> Sequence[int]:
        frontier = tree.frontier(len(tree))
        if not frontier or step > self.random.randint(-2, 4):
            return ()
        frontier.sort()  # their order by estimate would tell of the draws
        return self.random.sample(frontier, min(len(frontier), self.random.randint(1, 4)))

    def fan(self, tree: Tree, nodes: Sequence[int]) -> Sequence[int]:
        return [self.random.randint(1, self.max_fan) for _ in nodes]

    def submit(self, tree: Tree) -> Sequence[int]:
        rows, edge, terminal = [0], tree.children(0), tree.terminal
        while edge and self.random.random() < 0.8:
            node = edge.pop(self.random.randrange(len(edge)))
            rows.append(node)
            edge += tree.children(node) if not terminal[node] else []
        return rows
