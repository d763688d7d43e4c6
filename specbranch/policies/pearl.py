"""PEARL: draft the next chain while the target checks the last one (arXiv 2408.11850)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from specbranch.policies.chains import OverlappedChains

if TYPE_CHECKING:
    from specbranch._C import Tree


class PEARL(OverlappedChains):
    """One chain, extended by up to gamma tokens during every target forward.

    After a rejection nothing is left to submit but the root, which is PEARL's pre-verify: the
    target decides the first token while the draft writes the block that follows.
    """

    name = "pearl"
    first_cost_ratio = 4.0

    def grow(self, tree: Tree, busy: bool, step: int) -> Sequence[int]:
        tip = tree.main_line()[-1]
        return (tip,) if busy and step < self.length and tree.expandable(tip) else ()

    def submit(self, tree: Tree) -> Sequence[int]:
        return tree.main_line()[: self.length + 1]
