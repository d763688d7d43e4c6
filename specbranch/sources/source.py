"""What a draft source answers: for these nodes, which tokens may follow, and how likely each is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from specbranch.lanes import Lane
from specbranch.request import Request
from specbranch.sampling import Coupling


class Wanted(NamedTuple):
    """Nodes of one request's tree whose guesses are wanted."""

    request: Request
    nodes: Sequence[int]


class Guesses(NamedTuple):
    """What a source says of n nodes, valid until it is asked again."""

    ids: np.ndarray[Any, Any]  # int32 [n, k] best (or first drawn) first, -1 where there are fewer
    estimates: np.ndarray[Any, Any]  # float32 [n, k] chance that each is right
    max_prob: np.ndarray[Any, Any]  # float32 [n] of the law
    entropy: np.ndarray[Any, Any]  # float32 [n] of the law, in nats

    @classmethod
    def of(cls, chances: Sequence[Mapping[int, float]], k: int) -> Guesses:
        """The first k tokens of each node, all others taken for one."""
        ids = np.full((len(chances), k), -1, np.int32)
        estimates = np.zeros((len(chances), k), np.float32)
        for row, node in enumerate(chances):
            n = min(k, len(node))
            ids[row, :n], estimates[row, :n] = list(node)[:n], list(node.values())[:n]
        rest = np.clip(1 - estimates.sum(1, dtype=np.float64), 0, 1)
        laws = np.column_stack([estimates, rest])
        logs = np.log(laws, where=laws > 0, out=np.zeros_like(laws))
        return cls(ids, estimates, estimates.max(1), -(laws * logs).sum(1, dtype=np.float32))


class Source(ABC):
    """Guesses what follows nodes of requests' trees.

    It does not attach them, learn from them or ask policies: `growth` does, for all sources.

    max_nodes: nodes of a request that it can have expanded at a time.
    max_steps: steps of a chain that it takes at once, at most.
    draws: whether under the rejection coupling it draws guesses and tells their laws; those of a
        source that does not are matched.
    takes_cores: whether its work takes cores for long that the target could use.
    hidden_layers: of the target's last decoder layers whose outputs it reads as `Request.hidden`;
        it was made for one engine then.
    """

    max_nodes: int
    max_steps = 1
    draws = False
    takes_cores = True
    hidden_layers = 0

    def has_room(self, request: Request) -> bool:
        """Whether `begin` would find room for a request now."""
        return True

    def room(self, request: Request) -> int:
        """Nodes of a request that it can have expanded now; `max_nodes` by default."""
        return self.max_nodes

    def begin(self, request: Request) -> None:
        """Make room for a request; nothing by default."""
        return

    def read(self, lane: Lane, request: Request) -> bool:
        """Read at most a chunk of the committed tokens that were not seen yet, where they are too
        many to ride along with the root. Returns whether guesses can be asked for; so by default.
        """
        return True

    def end(self, request: Request) -> None:
        """Give back what `begin` took; nothing by default."""
        return

    @abstractmethod
    def guess(self, lane: Lane, wanted: Sequence[Wanted], steps: int) -> Guesses:
        """Guesses for the wanted nodes, request by request.

        lane: where to work. The nodes of a request are expanded at the slots from its number of
            expanded nodes on, parents before children; a root may lie behind a few committed tokens
            that `read` has left.
        steps: at most `max_steps`. With more than one each request wants one node; the same rows
            follow for the first guess of each, and so on, step by step. What a source says below a
            node that ends its request, or that has no guess, is not looked at.

        Where `Request.drawn` it adds the law [V] of each node to `Request.laws`.
        """

    def keep(self, lane: Lane, kept: Sequence[tuple[Request, Sequence[int], int]]) -> None:
        """Follow what was committed.

        kept: for each request the slots of expanded nodes that stay, strictly increasing; the first
            so many of them are committed, the others get slots from 0 on.
        Nothing by default.
        """
        return


def read_apart(request: Request, context_len: int, max_nodes: int) -> bool:
    """Whether committed tokens that a draft lacks are read apart from the step over the root: those
    of the prompt, and what outgrows a block.

    context_len: tokens that it has seen.
    """
    behind = len(request.committed) - 1 - context_len
    return behind > 0 and (context_len < len(request.prompt) - 1 or behind >= max_nodes)


def by_coupling(wanted: Sequence[Wanted]) -> list[tuple[Coupling, list[Wanted]]]:
    """Requests in line that have the same coupling: an op serves one at a time."""
    groups = groupby(wanted, key=lambda each: each.request.params.effective_coupling)
    return [(coupling, list(group)) for coupling, group in groups]
