"""A draft of plain numbers, so that policies are tested without a model, a tensor or a lane."""

from __future__ import annotations

from collections.abc import Sequence

from specbranch.policies import Outcome, Policy
from specbranch.tree import Node, SpeculationTree


class Draft:
    """A pretended draft: every expanded node has the given confidence and ranked estimates."""

    def __init__(self, policy: Policy, confidence: Sequence[float] = (0.9,)) -> None:
        self.policy = policy
        self.confidence = list(confidence)
        self.slots = 0
        self.tree = SpeculationTree(0)

    def expand(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            assert node.expandable
            node.slot = self.slots
            self.slots += 1
            node.confidence = self.confidence[min(node.depth, len(self.confidence) - 1)]
            node.entropy = 4 * (1 - node.confidence)
            for rank in range(self.policy.fan(node)):
                share = node.confidence if rank == 0 else (1 - node.confidence) / 2**rank
                child = Node(10 * node.depth + rank, node, node.estimate * share, prior=share)
                child.depth = node.depth + 1
                node.children.append(child)

    def grow(self, *, busy: bool, steps: int = 100) -> list[int]:
        """Grow until the policy stops; returns how many nodes each step expanded."""
        sizes = []
        for step in range(steps):
            nodes = self.policy.grow(self.tree, busy, step)
            if not nodes:
                break
            self.expand(nodes)
            sizes.append(len(nodes))
        return sizes

    def submit(self) -> list[Node]:
        self.tree.submitted = list(self.policy.submit(self.tree))
        return list(self.tree.submitted)


def outcome(hit: bool, accepted: int = 0, submitted: int = 4) -> Outcome:
    return Outcome(hit=hit, accepted=accepted, submitted=submitted, cost_ratio=5.0)
