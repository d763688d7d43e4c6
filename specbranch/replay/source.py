"""A replay's draft: laws around known texts, and the time that their forwards are charged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter

import numpy as np

from specbranch.lanes import Lane
from specbranch.replay.laws import RANKS, Law, place_of
from specbranch.replay.recorded import Recorded
from specbranch.request import Request
from specbranch.sources.source import Guesses, Source, Wanted, read_apart
from specbranch.trace import Label


class RecordedSource(Source):
    """Guesses of requests that will commit recorded texts.

    requests: each with its recording. max_nodes: size of the draft's block, as for an engine.
    max_fan: guesses of a node, RANKS at most.
    """

    def __init__(
        self, requests: Mapping[Request, Recorded], *, max_nodes: int, max_fan: int
    ) -> None:
        if max_fan > RANKS:
            raise ValueError(f"max_fan: expected at most {RANKS} to replay, got {max_fan}")
        self.max_nodes = self.max_steps = max_nodes
        self._recorded = requests
        self._ranks = max_fan
        # Of a draft model that had come as far with each request.
        self._context_lens = dict.fromkeys(requests, 0)

    def read(self, lane: Lane, request: Request) -> bool:
        if read_apart(request, self._context_lens[request], self.max_nodes):
            lane.run(Label.PREFILL, lambda: None)
            self._context_lens[request] = len(request.committed) - 1
        return True

    def guess(self, lane: Lane, wanted: Sequence[Wanted], steps: int) -> Guesses:
        """A chain is charged as a whole, with the steps that are lost."""
        rows = sum(len(nodes) + self._catch_up(request, nodes) for request, nodes in wanted)
        paths = [
            (request, request.tree.tokens(request.tree.path(node)))
            for request, nodes in wanted
            for node in nodes
        ]
        if steps == 1:
            return self._guesses(lane.run(Label.DRAFT, lambda: self._laws_at(paths), rows=rows))
        charged = [lane.submit(Label.DRAFT, lambda: None, rows=rows)]
        charged += [
            lane.submit(Label.DRAFT, lambda: None, rows=len(paths)) for _ in range(steps - 1)
        ]
        laws: list[Law] = []
        for _ in range(steps):
            laws += (found := self._laws_at(paths))
            paths = [
                (request, [*path, law.ids[0]])
                for (request, path), law in zip(paths, found, strict=True)
            ]
        for step in charged:
            step.result()
        return self._guesses(laws)

    def keep(self, lane: Lane, kept: Sequence[tuple[Request, Sequence[int], int]]) -> None:
        for request, _, n_context in kept:
            self._context_lens[request] += n_context

    def _catch_up(self, request: Request, nodes: Sequence[int]) -> int:
        """Committed tokens that ride along with the root."""
        if nodes[0] != 0:
            return 0
        behind = len(request.committed) - 1 - self._context_lens[request]
        self._context_lens[request] += behind
        return behind

    def _laws_at(self, paths: Sequence[tuple[Request, Sequence[int]]]) -> list[Law]:
        laws: list[Law] = []
        for request, those in groupby(paths, itemgetter(0)):
            recording, source, _ = self._recorded[request]
            committed = len(request.committed) - len(request.prompt)
            laws += source.laws([place_of(recording.text, committed, path) for _, path in those])
        return laws

    def _guesses(self, laws: Sequence[Law]) -> Guesses:
        ids, estimates, max_prob, entropy = zip(*laws, strict=True)
        return Guesses(
            np.array([each[: self._ranks] for each in ids], np.int32),
            np.array([each[: self._ranks] for each in estimates], np.float32),
            np.array(max_prob, np.float32),
            np.array(entropy, np.float32),
        )
