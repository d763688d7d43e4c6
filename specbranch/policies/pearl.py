"""PEARL: draft the next chain while the target checks the last one (arXiv 2408.11850)."""

from __future__ import annotations

from collections.abc import Sequence

from specbranch.checks import require_positive
from specbranch.policies.base import Policy
from specbranch.tree import Node, SpeculationTree


class PEARL(Policy):
    """One chain, extended by up to gamma tokens during every target forward.

    After a rejection nothing is left to submit but the root, which is PEARL's pre-verify: the
    target decides the first token while the draft writes the block that follows.
    """

    name = "pearl"
    overlaps = True

    def __init__(self, gamma: int = 4) -> None:
        require_positive(gamma=gamma)
        self.gamma = gamma

    def grow(self, tree: SpeculationTree, busy: bool, step: int) -> Sequence[Node]:
        tip = tree.main_line()[-1]
        return (tip,) if busy and step < self.gamma and tip.expandable else ()

    def submit(self, tree: SpeculationTree) -> Sequence[Node]:
        return tree.main_line()[: self.gamma + 1]
