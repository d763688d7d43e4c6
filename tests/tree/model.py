"""What a speculation tree is, in plain Python: nodes that know each other, and no arrays."""

from __future__ import annotations

import functools
import math
import operator
from bisect import bisect
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

RANKS = 4
COPY_DOUBTS = 0.05
LEAST_LEFT = 1e-9
EDGES = (0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97)


@dataclass(eq=False, repr=False)
class Node:
    token: int
    parent: Node | None = None
    estimate: float = 1.0
    prior: float = 0.0
    rank: int = -1
    drafted: float | None = None
    matched: float | None = None
    chance: float = 1.0
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


def together(a: float, b: float) -> float:
    """The chance whose log-odds are the mean of both."""
    odds = [p / (1 - p) for p in (min(max(p, 1e-6), 1 - 1e-6) for p in (a, b))]
    pooled = math.sqrt(odds[0] * odds[1])
    return pooled / (1 + pooled)


def added(numbers: Iterable[float]) -> float:
    """Their sum, rounded at each step, which `sum` is not in every Python."""
    return functools.reduce(operator.add, numbers, 0.0)


class Tree:
    def __init__(self, token: int, coupling: str, ends: Collection[int], remaining: int) -> None:
        self.coupling, self.ends, self.remaining = coupling, ends, remaining
        self.nodes = [Node(token, prior=1.0)]  # in the order in which they joined
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

    def growable(self, nodes: Sequence[Node]) -> list[Node]:
        """Those that are not terminal, each behind the unexpanded nodes above it."""
        closed: list[Node] = []
        for node in nodes:
            line = [node]
            while line[0].parent and line[0].parent.slot < 0:
                line.insert(0, line[0].parent)
            closed += [each for each in line if each not in closed and not each.terminal]
        return closed

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
            child = self.child(node, token)
            child.rank, child.prior, child.drafted = rank, priors[rank], chances[rank]
            child.draw = rank + 1 if self.coupling == "rejection" else 0
        self.weigh(node)

    def child(self, node: Node, token: int) -> Node:
        for child in node.children:
            if child.token == token:
                return child
        depth = node.depth + 1
        terminal = token in self.ends or depth >= self.remaining
        child = Node(token, node, on_main_line=False, terminal=terminal, depth=depth)
        node.children.append(child)
        self.nodes.append(child)
        return child

    def match(self, node: Node, tokens: Sequence[int], chances: Sequence[float]) -> list[Node]:
        matches = [self.child(node, token) for token in tokens]
        for child, chance in zip(matches, chances, strict=True):
            child.matched = chance
        self.weigh(node)
        return matches

    def weigh(self, node: Node) -> None:
        """The chances of a node's children, and all that follows from them."""
        left = max(LEAST_LEFT, 1 - added(child.drafted or 0.0 for child in node.children))
        for child in node.children:
            if child.matched is None:
                child.chance = child.drafted or 0.0
            elif child.drafted is None:
                child.chance = left * child.matched
            else:
                child.chance = together(child.drafted, child.matched)
        if any(child.matched is not None for child in node.children):
            total = max(1.0, added(child.chance for child in node.children))
            for child in node.children:
                child.chance /= total
            drawn = [child for child in node.children if child.draw]
            others = [child for child in node.children if not child.draw]
            node.children = sorted(drawn, key=lambda child: child.draw)
            node.children += sorted(others, key=lambda child: -child.chance)
            if self.coupling == "gumbel" or node.slot < 0:
                node.first_chance = node.children[0].chance
        self.refresh()

    def refresh(self) -> None:
        for node in self.root.walk():
            for child in node.children:
                child.estimate = node.estimate * child.chance
                child.on_main_line = node.on_main_line and child is node.children[0]

    def question(self) -> list[Node]:
        rows = self.submitted
        return rows + [child for node in rows for child in node.children if child not in rows]

    def teach(self, path: Sequence[Node], winner: Node | None, reliability: Reliability) -> None:
        for node, right in zip(path, [*path[1:], winner], strict=True):
            for child in node.children:
                if child.rank >= 0:
                    reliability.learn(child.rank, child.prior, child is right)

    def keep(self, path: Sequence[Node], winner: Node | None) -> tuple[list[int], int]:
        kept = [node.slot for node in path if node.slot >= 0]
        living = [node.slot for node in (winner.walk() if winner else ()) if node.slot >= 0]
        return kept + sorted(living), len(kept)

    def reroot(self, path: Sequence[Node], winner: Node | None, token: int) -> tuple[int, int]:
        living = list(winner.walk()) if winner else []
        dropped = [node for node in self.nodes if node not in living and node not in path]
        self.submitted = []
        self.nodes = [node for node in self.nodes if node in living] or [Node(token, prior=1.0)]
        if winner:
            depth = winner.depth
            for node in living:
                node.depth -= depth
            winner.parent, winner.estimate, winner.on_main_line = None, 1.0, True
            self.refresh()
            expanded = [node for node in living if node.slot >= 0]
            for slot, node in enumerate(sorted(expanded, key=lambda node: node.slot)):
                node.slot = slot
        main = sum(node.on_main_line for node in dropped)
        return main, len(dropped) - main
