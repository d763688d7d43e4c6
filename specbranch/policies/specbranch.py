"""SpecBranch: hedge the next rejection with parallel branches (arXiv 2506.01979)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from specbranch.checks import require_positive, require_share
from specbranch.policies.base import Outcome
from specbranch.policies.chains import OverlappedChains

if TYPE_CHECKING:
    from specbranch._C import Tree


class SpecBranch(OverlappedChains):
    """Draft stage and branch stage of the paper.

    Draft stage, with the target idle: the chain is drafted, or what survived of it continued, until
    the *branch point*, the first node where the draft's first chance falls below epsilon, or until
    a further token is not worth the target's wait. Branch stage, while the target checks the chain
    and the branch point's first candidate: k = max(1, floor(k_max (1 - first chance))) candidates
    fork at the branch point, and every branch grows by one token a step until it comes to a branch
    point of its own. If the walk ends in a branch, that branch lives on and is the next chain;
    otherwise all of them are dropped.

    Where a surviving chain has its branch point, H-RAD says after verification: at the new root
    where it expects nothing to hold, at the chain's end where it expects everything to, and by
    first chance where it expects something between, or where there is no classifier.

    k_max: branches at most. gamma: tokens of a chain, and of a branch, at most; None follows the
    measured cost ratio. epsilon: first chance below which a node is a branch point.
    """

    name = "specbranch"
    reads_outlook = True
    first_cost_ratio = 8.0

    def __init__(self, k_max: int = 6, gamma: int | None = None, epsilon: float = 0.4) -> None:
        super().__init__(gamma)
        require_positive(k_max=k_max)
        require_share(epsilon=epsilon)
        self.k_max = self.max_fan = k_max
        self.epsilon = self._least_chance = epsilon
        self._only_root = False
        self._branch_point = -1

    def grow(self, tree: Tree, busy: bool, step: int) -> Sequence[int]:
        return self._grow_branches(tree) if busy else self._grow_chain(tree)

    def fan(self, tree: Tree, nodes: Sequence[int]) -> Sequence[int]:
        return [
            max(1, int(self.k_max * (1 - chance)))
            if node == self._branch_point or chance < self._least_chance
            else 1
            for node, chance in zip(nodes, tree.first_chances(nodes), strict=True)
        ]

    def submit(self, tree: Tree) -> Sequence[int]:
        return tree.main_line()[: 1 if self._only_root else self.length + 1]

    def observe(self, outcome: Outcome) -> None:
        super().observe(outcome)
        outlook = outcome.outlook if outcome.hit else None
        self._only_root = outlook is not None and outlook.nothing == max(outlook)
        expects_all = outlook is not None and outlook.everything == max(outlook)
        self._least_chance = 0.0 if expects_all else self.epsilon

    def _grow_chain(self, tree: Tree) -> Sequence[int]:
        self._branch_point = -1
        if self._only_root:
            return ()
        *above, tip = tree.estimates(tree.main_line())
        pays = tip * self._cost_ratio.value > sum(above) + tip
        return self._tips(tree, [0]) if pays else ()

    def _grow_branches(self, tree: Tree) -> Sequence[int]:
        chain = tree.submitted
        self._branch_point = chain[self._num_sure(tree.first_chances(chain[:-1]))]
        if tree.expandable(self._branch_point):
            return (self._branch_point,)
        return self._tips(tree, tree.children(self._branch_point))

    def _tips(self, tree: Tree, tops: Sequence[int]) -> list[int]:
        """Where the chains from `tops` on grow, those that came to a branch point or to their
        length left out."""
        tips = []
        for top in tops:
            *chain, tip = tree.main_line(top)
            sure = self._num_sure(tree.first_chances(chain)) == len(chain)
            if sure and len(chain) < self.length and tree.expandable(tip):
                tips.append(tip)
        return tips

    def _num_sure(self, chances: Sequence[float]) -> int:
        """How many of them come before the first that makes a branch point."""
        for place, chance in enumerate(chances):
            if chance < self._least_chance:
                return place
        return len(chances)
