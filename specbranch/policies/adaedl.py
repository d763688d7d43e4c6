"""AdaEDL: stop drafting when an entropy bound on the acceptance gets low (arXiv 2410.18351)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from specbranch.checks import require_share
from specbranch.policies.base import Outcome
from specbranch.policies.sps import SpeculativeSampling

if TYPE_CHECKING:
    from specbranch._C import Tree


class AdaEDL(SpeculativeSampling):
    """A chain that ends early where 1 - sqrt(0.2 H(q)) falls below a threshold.

    The threshold follows the measured acceptance: it rises while acceptance is under
    `target_acceptance`, so that doubtful guesses are no longer drafted, and falls otherwise.
    """

    name = "adaedl"

    def __init__(
        self, gamma: int = 8, threshold: float = 0.3, target_acceptance: float = 0.9
    ) -> None:
        super().__init__(gamma)
        require_share(threshold=threshold, target_acceptance=target_acceptance)
        self.threshold = threshold
        self.target_acceptance = target_acceptance
        self.acceptance = target_acceptance

    def grow(self, tree: Tree, busy: bool, step: int) -> Sequence[int]:
        before = tree.main_line()[:-1]
        if before and 1 - math.sqrt(0.2 * tree.entropy[before[-1]]) < self.threshold:
            return ()
        return super().grow(tree, busy, step)

    def stretch(self, tree: Tree, busy: bool, step: int) -> int:
        return 1  # each guess decides whether there is a next one

    def observe(self, outcome: Outcome) -> None:
        if not outcome.submitted:
            return
        rate = outcome.accepted / outcome.submitted
        self.acceptance = 0.5 * self.acceptance + 0.5 * rate
        proposal = self.threshold
        if self.acceptance < self.target_acceptance:
            proposal += 0.01
        elif outcome.accepted < self.gamma:
            proposal -= 0.01
        self.threshold = 0.9 * self.threshold + 0.1 * proposal
