"""What a speculation tree is, in plain Python: nodes that know each other, and no arrays."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

RANKS = 4
COPY_DOUBTS = 0.05
EDGES = (0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97)


@dataclass(eq=False, repr=False)
class Node:
    token: int
    parent: Node | None = None
    estimate: float = 1.0
    prior: float = 1.0
    draw: int = 0
    on_main_line: bool = True
    terminal: bool = False
    depth: int = 0
    slot: int = -1
    max_prob: float = 0.0
    first_chance: float = 0.0
    entropy: float = 0.0
    children: list[Node] = field(default_factory=list)

    @property
    def expandable(self) -> bool:
        return self.slot < 0 and not self.terminal

    def walk(self) -> Iterator[Node]:
        yield self
        for child in self.children:
            yield from child.walk()

    def first_choices(self) -> list[Node]:
        return [self, *(self.children[0].first_choices() if self.children else [])]


class Reliability:
    """The posterior means that specbranch._C.Reliability promises."""

    def __init__(self, coupling: str, strength: float = 3.0, copy_odds: float = 0.25) -> None:
        self.coupling, self.strength, self.copy_odds = coupling, strength, copy_odds
        buckets = len(EDGES) + 1
        self.tested, self.held = [0] * buckets, [0] * buckets
        self.right = [[0] * buckets for _ in range(1, RANKS)]
        self.expected = [[0.0] * buckets for _ in range(1, RANKS)]

    def priors(self, estimates: Sequence[float]) -> list[float]:
        chances, untested = [], 1.0
        for estimate in estimates:
            share = min(estimate, 1.0)
            chance = share if self.coupling == "gumbel" else untested * (0.3 + 0.7 * share)
            untested -= chance
            chances.append(chance)
        return chances

    def chances(self, priors: Sequence[float]) -> list[float]:
        if not priors:
            return []
        first, *others = priors
        bucket, s = bisect(EDGES, first), self.strength
        copy = self.copy_odds / (1 + self.copy_odds)
        mean = (1 - copy) * first + copy * (1 - COPY_DOUBTS * (1 - first))
        chance = (self.held[bucket] + s * mean) / (self.tested[bucket] + s)
        scaled = []
        for rank, prior in enumerate(others, start=1):
            row, bucket = min(rank, RANKS - 1) - 1, bisect(EDGES, prior)
            scaled.append(prior * (self.right[row][bucket] + s) / (self.expected[row][bucket] + s))
        total, left = sum(scaled), 1 - chance
        return [chance, *(each * left / total if total > left else each for each in scaled)]

    def learn(self, rank: int, prior: float, right: bool) -> None:
        bucket = bisect(EDGES, prior)
        if rank == 0:
            self.tested[bucket] += 1
            self.held[bucket] += right
            of_copy = 1 - COPY_DOUBTS * (1 - prior)
            self.copy_odds *= of_copy / max(prior, 0.01) if right else COPY_DOUBTS
            self.copy_odds = min(self.copy_odds, 1e6)
        else:
            row = min(rank, RANKS - 1) - 1
            self.expected[row][bucket] += prior
            self.right[row][bucket] += right


class Tree:
    def __init__(self, token: int, coupling: str, ends: Collection[int], remaining: int) -> None:
        self.coupling, self.ends, self.remaining = coupling, ends, remaining
        self.nodes = [Node(token)]  # in the order in which they joined
        self.submitted: list[Node] = []

    @property
    def root(self) -> Node:
        return self.nodes[0]

    def id_of(self, node: Node | None) -> int:
        return -1 if node is None else self.nodes.index(node)

    def ids(self, nodes: Sequence[Node]) -> list[int]:
        return [self.nodes.index(node) for node in nodes]

    def best(self, nodes: Sequence[Node], count: int) -> list[Node]:
        return sorted(nodes, key=lambda node: (-node.estimate, self.id_of(node)))[:count]

    def frontier(self, count: int) -> list[Node]:
        return self.best([node for node in self.root.walk() if node.expandable], count)

    def likeliest(self, count: int) -> list[Node]:
        """Step by step: always the likeliest of what hangs on the nodes taken so far."""
        taken, reachable = [], [self.root]
        while reachable and len(taken) < count:
            (node,) = self.best(reachable, 1)
            reachable.remove(node)
            taken.append(node)
            reachable += [child for child in node.children if not child.terminal]
        return taken

    def expand(
        self,
        node: Node,
        slot: int,
        ids: Sequence[int],
        estimates: Sequence[float],
        max_prob: float,
        entropy: float,
        fan: int,
        reliability: Reliability,
    ) -> None:
        priors = reliability.priors(estimates[: len(ids)])
        chances = reliability.chances(priors)
        node.slot, node.max_prob, node.entropy = slot, max_prob, entropy
        node.first_chance = chances[0] if chances and self.coupling == "gumbel" else max_prob
        for rank, token in enumerate(ids[:fan]):
            child = Node(
                token,
                node,
                node.estimate * chances[rank],
                priors[rank],
                rank + 1 if self.coupling == "rejection" else 0,
                node.on_main_line and rank == 0,
                token in self.ends or node.depth + 1 >= self.remaining,
                node.depth + 1,
            )
            node.children.append(child)
            self.nodes.append(child)

    def question(self) -> list[Node]:
        rows = self.submitted
        return rows + [child for node in rows for child in node.children if child not in rows]

    def teach(self, path: Sequence[Node], winner: Node | None, reliability: Reliability) -> None:
        for node, right in zip(path, [*path[1:], winner], strict=True):
            for rank, child in enumerate(node.children):
                reliability.learn(rank, child.prior, child is right)

    def keep(self, path: Sequence[Node], winner: Node | None) -> tuple[list[int], int]:
        kept = [node.slot for node in path if node.slot >= 0]
        living = [node.slot for node in (winner.walk() if winner else ()) if node.slot >= 0]
        return kept + sorted(living), len(kept)

    def reroot(self, path: Sequence[Node], winner: Node | None, token: int) -> tuple[int, int]:
        living = list(winner.walk()) if winner else []
        dropped = [node for node in self.nodes if node not in living and node not in path]
        self.submitted = []
        self.nodes = [node for node in self.nodes if node in living] or [Node(token)]
        if winner:
            depth, estimate = winner.depth, winner.estimate
            for node in living:
                node.depth -= depth
                node.estimate /= max(estimate, 1e-30)
            for node in winner.first_choices():
                node.on_main_line = True
            winner.parent, winner.estimate = None, 1.0
            expanded = [node for node in living if node.slot >= 0]
            for slot, node in enumerate(sorted(expanded, key=lambda node: node.slot)):
                node.slot = slot
        main = sum(node.on_main_line for node in dropped)
        return main, len(dropped) - main
