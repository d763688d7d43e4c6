"""SpecBranch: hedge the next rejection with parallel branches (arXiv 2506.01979)."""

from __future__ import annotations

from collections.abc import Sequence

from specbranch.checks import require_positive, require_share
from specbranch.policies.base import Outcome, Policy
from specbranch.tree import Node, SpeculationTree


class SpecBranch(Policy):
    """Draft stage and branch stage of the paper.

    Draft stage, with the target idle: the chain is drafted, or what survived of it continued, until
    the *branch point*, the first node where the draft's confidence falls below epsilon, or until a
    further token is not worth the target's wait. Branch stage, while the target checks the chain
    and the branch point's first candidate: k = max(1, floor(k_max (1 - confidence))) candidates
    fork at the branch point, and every branch grows by one token a step until it comes to a branch
    point of its own. If the walk ends in a branch, that branch lives on and is the next chain;
    otherwise all of them are dropped.

    Where a surviving chain has its branch point, H-RAD says after verification: at the new root
    where it expects nothing to hold, at the chain's end where it expects everything to, and by
    confidence where it expects something between, or where there is no classifier.

    k_max: branches at most. gamma: tokens of a chain, and of a branch, at most.
    epsilon: confidence below which a node is a branch point.
    """

    name = "specbranch"
    overlaps = True
    reads_outlook = True

    def __init__(self, k_max: int = 6, gamma: int = 8, epsilon: float = 0.4) -> None:
        require_positive(k_max=k_max, gamma=gamma)
        require_share(epsilon=epsilon)
        self.k_max = self.max_fan = k_max
        self.gamma = gamma
        self.epsilon = epsilon
        self.begin()

    def begin(self) -> None:
        self._cost_ratio = float(self.gamma)
        self._confident = self.epsilon
        self._only_root = False
        self._branch_point: Node | None = None

    def grow(self, tree: SpeculationTree, busy: bool, step: int) -> Sequence[Node]:
        return self._grow_branches(tree) if busy else self._grow_chain(tree)

    def fan(self, node: Node) -> int:
        if node is self._branch_point or self._unsure(node):
            return max(1, int(self.k_max * (1 - node.confidence)))
        return 1

    def submit(self, tree: SpeculationTree) -> Sequence[Node]:
        return tree.main_line()[: 1 if self._only_root else self.gamma + 1]

    def observe(self, outcome: Outcome) -> None:
        outlook = outcome.outlook if outcome.hit else None
        self._only_root = outlook is not None and outlook.nothing == max(outlook)
        expects_all = outlook is not None and outlook.everything == max(outlook)
        self._confident = 0.0 if expects_all else self.epsilon
        if outcome.cost_ratio:
            self._cost_ratio = outcome.cost_ratio

    def _grow_chain(self, tree: SpeculationTree) -> Sequence[Node]:
        self._branch_point = None
        if self._only_root:
            return ()
        tip = self._tip(tree.root, self.gamma)
        expected = sum(node.estimate for node in tree.main_line())
        return (tip,) if tip and tip.estimate * self._cost_ratio > expected else ()

    def _grow_branches(self, tree: SpeculationTree) -> Sequence[Node]:
        chain = tree.submitted
        branch_point = self._branch_point = next(filter(self._unsure, chain), chain[-1])
        if branch_point.expandable:
            return (branch_point,)
        tips = (self._tip(branch, self.gamma) for branch in branch_point.children)
        return [tip for tip in tips if tip]

    def _tip(self, top: Node, length: int) -> Node | None:
        """Where the chain from `top` on grows; None if it came to a branch point or to `length`."""
        chain = top.first_choices()
        done = len(chain) > length or any(map(self._unsure, chain))
        return None if done or not chain[-1].expandable else chain[-1]

    def _unsure(self, node: Node) -> bool:
        return node.expanded and node.confidence < self._confident
