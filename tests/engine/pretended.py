"""A draft of plain numbers, so that policies are tested without a model, a tensor or a lane."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from specbranch._C import Reliability, Tree
from specbranch.policies import Outcome, Policy


class Draft:
    """A pretended draft: every expanded node has the given confidence and ranked estimates.

    confidence: by depth, the last one from there on.
    """

    def __init__(self, policy: Policy, confidence: Sequence[float] = (0.9,)) -> None:
        self.policy = policy
        self.confidence = np.array(confidence, np.float32)
        self.tree = Tree(0)

    def expand(self, nodes: Sequence[int]) -> None:
        """Nodes become computed ones; the policy says how many children they get."""
        depths = self.tree.depth[list(nodes)]
        first = self.confidence[np.minimum(depths, len(self.confidence) - 1)]
        ranks = np.arange(self.policy.max_fan)
        estimates = (1 - first[:, None]) / np.float32(2) ** ranks
        estimates[:, 0] = first
        ids = (10 * depths[:, None] + ranks).astype(np.int32)
        laws = ids, estimates.astype(np.float32), first, 4 * (1 - first)
        self.tree.expand(nodes, *laws, 0, Reliability(copy_odds=0))
        self.tree.attach(self.policy.fan(self.tree, nodes))

    def grow(self, *, busy: bool, steps: int = 100) -> list[int]:
        """Grow until the policy stops; returns how many nodes each step expanded."""
        sizes = []
        for step in range(steps):
            nodes = self.tree.growable(self.policy.grow(self.tree, busy, step), 10**6)
            if not nodes:
                break
            self.expand(nodes)
            sizes.append(len(nodes))
        return sizes

    def submit(self) -> list[int]:
        return self.tree.submit(self.policy.submit(self.tree), 10**6)

    def win(self, winner: int) -> None:
        """The target's next token is that of `winner`, below the root or on the main line."""
        path = [0, *self.tree.path(winner)[:-1]]
        self.tree.reroot(path, winner, int(self.tree.token[winner]))

    def fans(self, nodes: Sequence[int]) -> list[int]:
        """How many children each of the nodes has."""
        return [len(self.tree.children(node)) for node in nodes]


def outcome(hit: bool, accepted: int = 0, submitted: int = 4) -> Outcome:
    return Outcome(hit=hit, accepted=accepted, submitted=submitted, cost_ratio=5.0)
