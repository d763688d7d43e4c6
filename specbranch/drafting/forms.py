"""What is said of a tree: a chain for engines that verify chains, or its likeliest part."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from specbranch.checks import require_positive, require_share
from specbranch.policies import BestFirst
from specbranch.tree import Tree

Form = Callable[[Tree, int], list[int]]  # nodes to say below a node, parents before children


class Answer(NamedTuple):
    """Guesses of what follows a text, parents before children."""

    tokens: list[int]
    parents: list[int]  # the place of each token's parent in these lists, -1 where it is the text
    chances: list[float]  # that decoding comes through each


NOTHING = Answer([], [], [])


@dataclass(frozen=True)
class Chain:
    """The first guess, the first below it, and so on.

    max_tokens: at most. least: chance of being reached that a token has at least.
    """

    max_tokens: int
    least: float = 0.0

    def __post_init__(self) -> None:
        _check(self.max_tokens, self.least)

    def __call__(self, tree: Tree, top: int) -> list[int]:
        line = tree.main_line(top)[: self.max_tokens + 1]
        chances = tree.estimates(line)
        terminal, least = tree.terminal, self.least * chances[0]
        nodes = []
        for node, chance in zip(line[1:], chances[1:], strict=True):
            if terminal[node] or chance < least:
                break
            nodes.append(node)
        return nodes


@dataclass(frozen=True)
class Subtree:
    """The likeliest nodes. max_tokens, least: as for a chain."""

    max_tokens: int
    least: float = 0.0

    def __post_init__(self) -> None:
        _check(self.max_tokens, self.least)

    def __call__(self, tree: Tree, top: int) -> list[int]:
        (whole,) = tree.estimates([top])
        terminal = tree.terminal
        known, least = len(terminal), self.least * whole
        nodes: list[int] = []
        reachable = [(-whole, top)]
        while reachable and len(nodes) <= self.max_tokens:
            _, node = heapq.heappop(reachable)
            nodes.append(node)
            # What another thread attaches meanwhile comes too late.
            children = [child for child in tree.children(node) if child < known]
            for child, chance in zip(children, tree.estimates(children), strict=True):
                if not terminal[child] and chance >= least:
                    heapq.heappush(reachable, (-chance, child))
        return nodes[1:]


def _check(max_tokens: int, least: float) -> None:
    require_positive(max_tokens=max_tokens)
    require_share(least=least)


class Ahead(BestFirst):
    """Best-first growth of what will be said in some form."""

    name = "ahead"

    def __init__(self, form: Form, rows: int, fan: int) -> None:
        super().__init__(rows_draft=rows, fan=fan)
        self._form = form

    def submit(self, tree: Tree) -> Sequence[int]:
        return [0, *self._form(tree, 0)]


def said(tree: Tree, top: int, form: Form) -> Answer:
    """What a form says of the tree below a node."""
    nodes = form(tree, top)
    if not nodes:
        return NOTHING
    places = {top: -1} | {node: place for place, node in enumerate(nodes)}
    parents, (whole, *chances) = tree.parent, tree.estimates([top, *nodes])
    return Answer(
        tree.tokens(nodes),
        [places[int(parents[node])] for node in nodes],
        [chance / whole for chance in chances],
    )
