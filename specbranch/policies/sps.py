"""Speculative sampling in series (Leviathan et al. 2023, Chen et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from specbranch.checks import require_positive
from specbranch.policies.base import Policy

if TYPE_CHECKING:
    from specbranch._C import Tree


class SpeculativeSampling(Policy):
    """A chain of gamma guesses, then one target forward over all of them, by turns."""

    name = "sps"

    def __init__(self, gamma: int = 4) -> None:
        require_positive(gamma=gamma)
        self.gamma = gamma

    def grow(self, tree: Tree, busy: bool, step: int) -> Sequence[int]:
        chain = tree.main_line()
        wanted = not busy and len(chain) <= self.gamma
        return chain[-1:] if wanted and tree.expandable(chain[-1]) else ()

    def stretch(self, tree: Tree, busy: bool, step: int) -> int:
        return self.gamma + 1 - len(tree.main_line())

    def submit(self, tree: Tree) -> Sequence[int]:
        return tree.main_line()[: self.gamma + 1]
