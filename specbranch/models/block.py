"""A request's place in one model: committed context, then the block of tree nodes beyond it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np


class Nodes(NamedTuple):
    """The nodes of a block, in slot order."""

    parents: list[int]  # slot of each node's parent, -1 where it follows the context
    positions: list[int]  # of each node's token in the text


class Block:
    """What one model's cache holds of one request.

    pages: int32 [M], where it lies in the pool.
    context_len: committed tokens.
    nodes: what was computed beyond them.
    max_len, max_nodes: how many committed tokens and how many nodes fit.
    """

    def __init__(self, pages: np.ndarray[Any, Any], max_len: int, max_nodes: int) -> None:
        self.pages = pages
        self.max_len = max_len
        self.max_nodes = max_nodes
        self.context_len = 0
        self.nodes = Nodes([], [])

    def __len__(self) -> int:
        """Nodes that are present."""
        return len(self.nodes.parents)

    def rewind(self, context_len: int) -> None:
        """Forget the nodes, and the context beyond `context_len`; what comes next overwrites them.

        Raises ValueError for more context than there is.
        """
        if not 0 <= context_len <= self.context_len:
            raise ValueError(
                f"rewind: context_len: expected 0 to {self.context_len}, got {context_len}"
            )
        self.context_len = context_len
        self.nodes = Nodes([], [])

    def with_nodes(self, parents: Sequence[int]) -> Nodes:
        """The nodes as they are once new ones below `parents` have been computed.

        Raises ValueError for too many nodes, or a parent that does not come before its child.
        """
        if len(self) + len(parents) > self.max_nodes:
            raise ValueError(
                f"forward: tokens: expected a block up to {self.max_nodes} nodes, "
                f"got {len(self) + len(parents)}"
            )
        grown = Nodes([*self.nodes.parents, *parents], list(self.nodes.positions))
        for slot, parent in enumerate(parents, len(self)):
            if not -1 <= parent < slot:
                raise ValueError(
                    f"forward: parents: expected -1 to {slot - 1} at slot {slot}, got {parent}"
                )
            grown.positions.append(grown.positions[parent] + 1 if parent >= 0 else self.context_len)
        return grown

    def kept(self, keep: Sequence[int], n_context: int) -> Nodes:
        """The nodes as they are once `keep[:n_context]` is context and `keep[n_context:]` remains.

        Raises ValueError if `keep` is not strictly increasing within the block, its first part is
        not a path from the root, a later node's parent is neither kept nor the path's end, or the
        context would outgrow `max_len`.
        """
        if not 0 <= n_context <= len(keep):
            raise ValueError(
                f"keep: n_context: expected 0 to len(keep) = {len(keep)}, got {n_context}"
            )
        self.require_context(self.context_len + n_context, "keep: n_context")
        parents = self.nodes.parents
        if any(not low < high for low, high in pairwise([-1, *keep, len(parents)])):
            raise ValueError(
                f"keep: expected increasing slots below {len(parents)}, got {list(keep)}"
            )
        root = -1
        for slot in keep[:n_context]:
            if parents[slot] != root:
                raise ValueError(f"keep: slot {slot} does not continue the path at {root}")
            root = slot
        place = {root: -1}
        for new, slot in enumerate(keep[n_context:]):
            if parents[slot] not in place:
                raise ValueError(f"keep: slot {slot} is kept without its parent")
            place[slot] = new
        living = keep[n_context:]
        return Nodes(
            [place[parents[slot]] for slot in living],
            [self.nodes.positions[slot] for slot in living],
        )

    def require_context(self, length: int, argument: str) -> None:
        """Raise ValueError, naming `argument`, if the context cannot be so long."""
        if length > self.max_len:
            raise ValueError(f"{argument}: expected a context up to {self.max_len}, got {length}")


class BlockRows(NamedTuple):
    """What a forward computes of one request: new nodes of its block."""

    block: Block
    tokens: Sequence[int]
    parents: Sequence[int]  # slot of each new node's parent; new nodes count
    logits_rows: int  # logits are wanted of the last so many of them


class Keep(NamedTuple):
    """What stays of one request's block: the first `n_context` slots become context."""

    block: Block
    slots: Sequence[int]
    n_context: int
