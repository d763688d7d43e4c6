"""Speculative sampling in series (Leviathan et al. 2023, Chen et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence

from specbranch.checks import require_positive
from specbranch.policies.base import Policy
from specbranch.tree import Node, SpeculationTree


class SpeculativeSampling(Policy):
    """A chain of gamma guesses, then one target forward over all of them, by turns."""

    name = "sps"

    def __init__(self, gamma: int = 4) -> None:
        require_positive(gamma=gamma)
        self.gamma = gamma

    def grow(self, tree: SpeculationTree, busy: bool, step: int) -> Sequence[Node]:
        tip = tree.main_line()[-1]
        return (tip,) if not busy and tip.depth < self.gamma and tip.expandable else ()

    def stretch(self, tree: SpeculationTree, busy: bool, step: int) -> int:
        return self.gamma - tree.main_line()[-1].depth

    def submit(self, tree: SpeculationTree) -> Sequence[Node]:
        return tree.main_line()[: self.gamma + 1]
