"""A replay's draft: laws around a known text, and the time that their forwards are charged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from specbranch.lanes import Lane
from specbranch.replay.laws import RANKS, Law, LawSource, place_of
from specbranch.request import Request
from specbranch.sources.source import Guesses, Source, Wanted, read_apart
from specbranch.trace import Label


class RecordedSource(Source):
    """Guesses of one request that will commit `text`.

    laws: the draft's, around the text. max_nodes: size of the draft's block, as for an engine.
    max_fan: guesses of a node, RANKS at most.
    """

    def __init__(
        self, text: Sequence[int], laws: LawSource, *, max_nodes: int, max_fan: int
    ) -> None:
        if max_fan > RANKS:
            raise ValueError(f"max_fan: expected at most {RANKS} to replay, got {max_fan}")
        self.max_nodes = self.max_steps = max_nodes
        self._text = text
        self._laws = laws
        self._ranks = max_fan
        self._context_len = 0  # of a draft model that had come as far

    def read(self, lane: Lane, request: Request) -> bool:
        if read_apart(request, self._context_len, self.max_nodes):
            lane.run(Label.PREFILL, lambda: None)
            self._context_len = len(request.committed) - 1
        return True

    def guess(self, lane: Lane, wanted: Sequence[Wanted], steps: int) -> Guesses:
        """A chain is charged as a whole, with the steps that are lost."""
        ((request, nodes),) = wanted
        rows = len(nodes)
        if nodes[0] == 0:
            behind = len(request.committed) - 1 - self._context_len
            self._context_len += behind
            rows += behind
        if steps == 1:
            tree = request.tree
            places = [tree.tokens(tree.path(node)) for node in nodes]
            return self._guesses(
                lane.run(Label.DRAFT, lambda: self._laws_at(request, places), rows=rows)
            )
        charged = [lane.submit(Label.DRAFT, lambda: None, rows=rows)]
        charged += [lane.submit(Label.DRAFT, lambda: None, rows=1) for _ in range(steps - 1)]
        path, laws = request.tree.tokens(request.tree.path(nodes[0])), []
        for _ in range(steps):
            laws += self._laws_at(request, [path])
            path = [*path, laws[-1].ids[0]]
        for step in charged:
            step.result()
        return self._guesses(laws)

    def keep(self, lane: Lane, kept: Sequence[tuple[Request, Sequence[int], int]]) -> None:
        for _, _, n_context in kept:
            self._context_len += n_context

    def _laws_at(self, request: Request, paths: Sequence[Sequence[int]]) -> list[Law]:
        committed = len(request.committed) - len(request.prompt)
        return self._laws.laws([place_of(self._text, committed, path) for path in paths])

    def _guesses(self, laws: Sequence[Law]) -> Guesses:
        ids, estimates, max_prob, entropy = zip(*laws, strict=True)
        return Guesses(
            np.array([each[: self._ranks] for each in ids], np.int32),
            np.array([each[: self._ranks] for each in estimates], np.float32),
            np.array(max_prob, np.float32),
            np.array(entropy, np.float32),
        )
