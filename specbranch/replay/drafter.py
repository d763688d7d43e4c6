"""The draft's side of a replayed request."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from specbranch.drafter import Drafter
from specbranch.lanes import Lane
from specbranch.ranking import DraftRows
from specbranch.replay.laws import RANKS, LawSource, place_of
from specbranch.sampling import SamplingParams
from specbranch.tree import Node


class BlockOnPaper:
    """A runner's bookkeeping of its block, without a model."""

    device = torch.device("cpu")
    vocab_size = 0
    context_len = 0
    token_ids = None

    def __init__(self, max_nodes: int) -> None:
        self.max_nodes = max_nodes
        self.reset()

    def reset(self) -> None:
        self.block: list[int] = []

    def commit(self, keep: Sequence[int], n_context: int) -> None:
        """Keep as many nodes as `ModelRunner.commit` would; no one asks for their parents."""
        self.block = [-1] * (len(keep) - n_context)


class ReplayDrafter(Drafter):
    """A drafter whose laws come from a source instead of a forward.

    lane: the draft's. max_nodes: size of the draft's block. max_fan: as for Drafter, RANKS at most.
    """

    def __init__(self, lane: Lane, max_nodes: int, max_fan: int) -> None:
        if max_fan > RANKS:
            raise ValueError(f"max_fan: expected at most {RANKS} to replay, got {max_fan}")
        self._ranks = slice(max_fan)
        super().__init__(BlockOnPaper(max_nodes), lane, max_fan, 0)  # type: ignore[arg-type]

    def follow(self, text: Sequence[int], source: LawSource) -> None:
        """Take the next request's laws from `source`; it will commit `text`."""
        self._text = text
        self._source = source

    def begin(self, params: SamplingParams, committed: Sequence[int]) -> None:
        super().begin(params, committed)
        self._prompt_len = len(committed)

    def expand_chain(
        self,
        tip: Node,
        length: int,
        fan: Callable[[Node], int],
        ends: Callable[[Node], bool],
    ) -> None:
        """Charged as a whole, with the steps below a node that ends the request, which are lost."""
        steps = [self._lane.submit("draft", lambda: None, rows=1) for _ in range(length)]
        node: Node | None = tip
        for _ in range(length):
            if node is None or node.terminal:
                self._runner.block.append(-1)
                continue
            slot = self._first_slot(node)
            self._grow_below(node, slot, self._step_over([node])(), 0, fan, ends)
            node = node.children[0] if node.children else None
        for step in steps:
            step.result()

    def _step_over(self, nodes: Sequence[Node]) -> Callable[[], DraftRows]:
        committed = len(self._committed) - self._prompt_len
        places = [place_of(self._text, committed, _path(node)) for node in nodes]

        def step() -> DraftRows:
            self._runner.block += [-1] * len(nodes)
            laws = self._source.laws(places)
            return DraftRows(
                ids=[law.ids[self._ranks] for law in laws],
                estimates=[law.estimates[self._ranks] for law in laws],
                max_prob=[law.max_prob for law in laws],
                entropy=[law.entropy for law in laws],
                laws=None,
            )

        return step


def _path(node: Node) -> list[int]:
    """Tokens from below the root down to the node."""
    tokens = []
    while node.parent is not None:
        tokens.append(node.token)
        node = node.parent
    return tokens[::-1]
