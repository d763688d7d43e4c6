"""SSD: guesses prepared for every outcome of the running verification (arXiv 2603.03251)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from specbranch.checks import is_integer, is_real, require, require_positive
from specbranch.policies.base import Policy

if TYPE_CHECKING:
    from specbranch._C import Tree


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
        self._tip = -1  # of the submitted chain

    def grow(self, tree: Tree, busy: bool, step: int) -> Sequence[int]:
        return self._grow_branches(tree) if busy else self._grow_chain(tree)

    def fan(self, tree: Tree, nodes: Sequence[int]) -> Sequence[int]:
        last = self.gamma - 1
        places = self._places(tree, nodes)
        return [
            self.fan_outs[-1] if node == self._tip else 1 + self.fan_outs[min(place, last)]
            for node, place in zip(nodes, places, strict=True)
        ]

    def submit(self, tree: Tree) -> Sequence[int]:
        return tree.main_line()[: self.gamma + 1]

    def _grow_chain(self, tree: Tree) -> Sequence[int]:
        self._tip = -1
        chain = tree.main_line()
        wanted = len(chain) <= min(self.backup, self.gamma)
        return chain[-1:] if wanted and tree.expandable(chain[-1]) else ()

    def _grow_branches(self, tree: Tree) -> Sequence[int]:
        chain = tree.submitted
        self._tip = chain[-1]
        branches = (
            child
            for node, submitted in zip(chain, [*chain[1:], -1], strict=True)
            for child in tree.children(node)
            if child != submitted
        )
        tips = [tree.main_line(branch)[-1] for branch in branches]
        places = zip(tips, self._places(tree, tips), strict=True)
        unfinished = [tip for tip, place in places if place < self.gamma]
        return [tip for tip in (self._tip, *unfinished) if tree.expandable(tip)]

    def _places(self, tree: Tree, nodes: Sequence[int]) -> list[int]:
        """Tokens of each node's chain before it; a branch begins one of its own."""
        parents, first_children = tree.parent.tolist(), tree.first_child.tolist()
        places = []
        for node in nodes:
            place, parent = 0, parents[node]
            while parent not in (-1, self._tip) and first_children[parent] == node:
                node, parent, place = parent, parents[parent], place + 1
            places.append(place)
        return places
