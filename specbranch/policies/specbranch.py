"""SpecBranch: hedge the next rejection with parallel branches (arXiv 2506.01979)."""

from __future__ import annotations

from collections.abc import Sequence

from specbranch.policies.base import Outcome, Outlook, Policy, require_positive
from specbranch.tree import Node, SpeculationTree


class SpecBranch(Policy):
    """Draft stage and branch stage of the paper.

    Draft stage, after a miss and with the target idle: a chain that ends at the *branch point*,
    the first node where the draft's confidence falls below epsilon, or after gamma tokens.
    Branch stage, while the target checks the chain: k = max(1, floor(k_max (1 - max_prob)))
    candidates fork at the branch point and every branch grows by one token a step. If the walk
    ends in a branch, that branch lives on and is the next chain; otherwise all of them are dropped.

    How much of a surviving branch is submitted, H-RAD says after verification: only the new root
    where it expects nothing to hold, all where it expects everything to, and up to the branch point
    where it expects something between, or where there is no classifier.

    k_max: branches at most. gamma: tokens of a chain, and of a branch, at most.
    epsilon: confidence below which a node is a branch point.
    """

    name = "specbranch"
    overlaps = True
    reads_outlook = True

    def __init__(self, k_max: int = 4, gamma: int = 6, epsilon: float = 0.4) -> None:
        require_positive(k_max=k_max, gamma=gamma)
        if not 0 <= epsilon <= 1:
            raise ValueError(f"epsilon: expected a number in [0, 1], got {epsilon}")
        self.k_max = self.max_fan = k_max
        self.gamma = gamma
        self.epsilon = epsilon
        self.begin()

    def begin(self) -> None:
        self.survived = False
        self._outlook: Outlook | None = None
        self._branch_point: Node | None = None

    def grow(self, tree: SpeculationTree, busy: bool, step: int) -> Sequence[Node]:
        return self._grow_branches(tree, step) if busy else self._grow_chain(tree)

    def fan(self, node: Node) -> int:
        if node is self._branch_point or self._unsure(node):
            return max(1, int(self.k_max * (1 - node.max_prob)))
        return 1

    def submit(self, tree: SpeculationTree) -> Sequence[Node]:
        chain = tree.main_line()[: self.gamma + 1]
        outlook = self._outlook if self.survived else None
        if outlook and outlook.nothing == max(outlook):
            return chain[:1]
        if outlook and outlook.everything == max(outlook):
            return chain
        return self._to_branch_point(chain)

    def observe(self, outcome: Outcome) -> None:
        self.survived = outcome.hit
        self._outlook = outcome.outlook

    def _grow_chain(self, tree: SpeculationTree) -> Sequence[Node]:
        self._branch_point = None
        chain = tree.main_line()
        tip = chain[-1]
        done = self.survived or tip.depth >= self.gamma or any(map(self._unsure, chain))
        return () if done or not tip.expandable else (tip,)

    def _grow_branches(self, tree: SpeculationTree, step: int) -> Sequence[Node]:
        branch_point = self._branch_point = tree.submitted[-1]
        if branch_point.expandable:
            return (branch_point,)
        if step > self.gamma:
            return ()
        tips = (branch.first_choices()[-1] for branch in branch_point.children)
        return [tip for tip in tips if tip.expandable]

    def _to_branch_point(self, chain: list[Node]) -> list[Node]:
        for length, node in enumerate(chain, start=1):
            if self._unsure(node):
                return chain[:length]
        return chain

    def _unsure(self, node: Node) -> bool:
        return node.expanded and node.max_prob < self.epsilon
