"""SSD: guesses prepared for every outcome of the running verification (arXiv 2603.03251)."""

from __future__ import annotations

from collections.abc import Sequence

from specbranch.checks import is_integer, is_real, require, require_positive
from specbranch.policies.base import Policy
from specbranch.tree import Node, SpeculationTree


class SSD(Policy):
    """While the target checks a chain, branches leave it at every position.

    Verification of a chain of K guesses ends after k of them, for k from 0 to K, with a token that
    is not the next guess. For position k the draft prepares its F_k best other candidates, each
    continued by a chain of its own, all growing by one a step. The paper's fan-out is geometric:
    F_k = F_0 a^(k / (1 + r)), and F_K = F_0 a^(K / (1 + r)) (1 - a)^(-1 / (1 + r)) at the end,
    which is the likeliest outcome of all. The branch that was right is the next chain; if none was,
    the draft writes a new one while the target waits.

    fan_out: F_0. acceptance: a, the chance that a guess of the chain is right.
    power: r, the exponent of the power law by which misses get rarer with the fan-out.
    gamma: tokens of a chain, at most. backup: those that it drafts after a miss, at most.
    """

    name = "ssd"
    overlaps = True

    def __init__(
        self,
        fan_out: int = 4,
        acceptance: float = 0.8,
        power: float = 1.0,
        gamma: int = 6,
        backup: int = 3,
    ) -> None:
        require_positive(fan_out=fan_out, gamma=gamma)
        for name, wanted, value, holds in (
            (
                "acceptance",
                "a number in (0, 1)",
                acceptance,
                is_real(acceptance) and 0 < acceptance < 1,
            ),
            ("power", "a number >= 0", power, is_real(power) and power >= 0),
            ("backup", "an integer >= 0", backup, is_integer(backup, 0)),
        ):
            require(name, wanted, value, holds)
        self.gamma = gamma
        self.backup = backup
        decay = acceptance ** (1 / (1 + power))
        self.fan_outs = [round(fan_out * decay**position) for position in range(gamma)]
        at_the_end = fan_out * decay**gamma * (1 - acceptance) ** (-1 / (1 + power))
        self.fan_outs.append(max(1, round(at_the_end)))
        self.max_fan = max(1 + max(self.fan_outs[:-1]), self.fan_outs[-1])
        self.begin()

    def begin(self) -> None:
        self._tip: Node | None = None

    def grow(self, tree: SpeculationTree, busy: bool, step: int) -> Sequence[Node]:
        return self._grow_branches(tree) if busy else self._grow_chain(tree)

    def fan(self, node: Node) -> int:
        if node is self._tip:
            return self.fan_outs[-1]
        return 1 + self.fan_outs[min(self._position(node), self.gamma - 1)]

    def submit(self, tree: SpeculationTree) -> Sequence[Node]:
        return tree.main_line()[: self.gamma + 1]

    def _grow_chain(self, tree: SpeculationTree) -> Sequence[Node]:
        self._tip = None
        tip = tree.main_line()[-1]
        return (tip,) if tip.depth < min(self.backup, self.gamma) and tip.expandable else ()

    def _grow_branches(self, tree: SpeculationTree) -> Sequence[Node]:
        chain = tree.submitted
        self._tip = chain[-1]
        branches = (
            child
            for node, submitted in zip(chain, [*chain[1:], None], strict=True)
            for child in node.children
            if child is not submitted
        )
        tips = (branch.first_choices()[-1] for branch in branches)
        unfinished = [tip for tip in tips if self._position(tip) < self.gamma]
        return [tip for tip in (self._tip, *unfinished) if tip.expandable]

    def _position(self, node: Node) -> int:
        """Tokens of the node's chain before it; a branch begins one of its own."""
        position = 0
        while node.parent not in (None, self._tip) and node is node.parent.children[0]:
            node, position = node.parent, position + 1
        return position
