"""Best-first growth: draft, and check, where the probability is."""

from __future__ import annotations

from collections.abc import Sequence

from specbranch.policies.base import Outcome, Policy, require_positive
from specbranch.tree import Node, SpeculationTree


class BestFirst(Policy):
    """Grows the likeliest nodes anywhere in the tree and submits the likeliest subtree.

    A draft step expands the rows_draft unexpanded nodes of highest estimate. The target checks
    the root and the likeliest nodes below it, rows_target rows at most. Estimates never grow along
    a path, so the likeliest nodes are always a connected subtree. Nodes less likely than
    min_estimate are left out of both, since a row costs more than they bring.

    While the target is idle it grows only as long as that pays: a further draft step delays the
    target by 1 / cost_ratio of a forward, and must add more than that share of the round's
    expected tokens. cost_ratio is T_target / T_draft to begin with, then what is measured.
    """

    name = "bestfirst"
    overlaps = True

    def __init__(
        self,
        rows_draft: int = 4,
        rows_target: int = 8,
        fan: int = 4,
        min_estimate: float = 0.05,
        cost_ratio: float = 4.0,
    ) -> None:
        require_positive(rows_draft=rows_draft, rows_target=rows_target, fan=fan)
        self.rows_draft = rows_draft
        self.rows_target = rows_target
        self.max_fan = fan
        self.min_estimate = min_estimate
        self.initial_cost_ratio = cost_ratio
        self.begin()

    def begin(self) -> None:
        self.cost_ratio = self.initial_cost_ratio

    def grow(self, tree: SpeculationTree, busy: bool, step: int) -> Sequence[Node]:
        best = self._worthwhile(_likeliest(tree.frontier(), self.rows_draft))
        return best if busy or self._pays(tree, best) else ()

    def fan(self, node: Node) -> int:
        return self.max_fan

    def submit(self, tree: SpeculationTree) -> Sequence[Node]:
        useful = [node for node in tree.walk() if not node.terminal]
        return self._worthwhile(_likeliest(useful, self.rows_target))

    def observe(self, outcome: Outcome) -> None:
        if outcome.cost_ratio:
            self.cost_ratio += 0.2 * (outcome.cost_ratio - self.cost_ratio)

    def _pays(self, tree: SpeculationTree, best: Sequence[Node]) -> bool:
        expected = sum(node.estimate for node in self.submit(tree))
        return sum(node.estimate for node in best) * self.cost_ratio > expected

    def _worthwhile(self, best: list[Node]) -> list[Node]:
        """The best node, whatever its estimate, and those that are worth a row."""
        return best[:1] + [node for node in best[1:] if node.estimate >= self.min_estimate]


def _likeliest(nodes: list[Node], count: int) -> list[Node]:
    """The `count` nodes of highest estimate; equals keep their order, so parents stay first."""
    return sorted(nodes, key=lambda node: node.estimate, reverse=True)[:count]
