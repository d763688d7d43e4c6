"""What the policies share that draft chains while the target is busy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specbranch.checks import require_positive
from specbranch.costs.learnt import CostRatio
from specbranch.policies.base import Outcome, Policy

if TYPE_CHECKING:
    from typing import Self


class OverlappedChains(Policy):
    """Chains of gamma tokens, by default as many as the draft writes during a target forward.

    gamma: tokens of a chain, at most; None follows the measured cost ratio, which starts at
    `first_cost_ratio` and is remembered from request to request.
    """

    overlaps = True
    first_cost_ratio: float

    def __init__(self, gamma: int | None = None) -> None:
        if gamma is not None:
            require_positive(gamma=gamma)
        self.gamma = gamma or 0
        self._cost_ratio = CostRatio(gamma or self.first_cost_ratio)

    @property
    def length(self) -> int:
        """Tokens of a chain, at most."""
        return self.gamma or self._cost_ratio.steps

    def fresh(self) -> Self:
        policy = self.begin()
        policy._cost_ratio = CostRatio(self.gamma or self.first_cost_ratio)
        return policy

    def observe(self, outcome: Outcome) -> None:
        self._cost_ratio.learn(outcome.cost_ratio)
