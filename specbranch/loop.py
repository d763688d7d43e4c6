"""The round loop. There is one; what distinguishes the methods is their policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from specbranch.growth import Growth, nonsense
from specbranch.lanes import Lanes
from specbranch.policies.base import Outcome
from specbranch.request import Request
from specbranch.trace import Trace
from specbranch.tree import Walk
from specbranch.verifier import Target

RECENT_SPANS = 32  # how far back the measured cost ratio looks


class Progress(NamedTuple):
    """What a round committed of a request, and the text that it makes visible."""

    tokens: list[int]
    text: str


class RoundLoop:
    """Rounds of live requests together: grow, submit, grow on, verify, re-root.

    Between rounds both models' caches hold exactly a request's committed tokens before the root,
    plus the draft's block of its tree's expanded nodes.

    trace: of the lanes, since their clock began.
    """

    def __init__(self, growth: Growth, target: Target, lanes: Lanes, trace: Trace) -> None:
        self._growth = growth
        self._target = target
        self._lanes = lanes
        self._trace = trace

    @contextmanager
    def serving(self, request: Request) -> Iterator[None]:
        """Take a request in; its prompt is read meanwhile. On leaving, the lanes become idle and
        the request gives back what it took, finished or not."""
        with ExitStack() as stack:
            self._growth.begin(request)
            stack.callback(self._growth.end, request)
            request.prefill = self._target.begin(request)
            stack.callback(self._target.end, request)
            stack.callback(self._lanes.drain)
            yield

    def step(self, requests: Sequence[Request]) -> list[Progress]:
        """One round of live requests, those of one coupling side by side."""
        began, spans_before = self._lanes.now(), len(self._trace.spans)
        with self._lanes.round():
            self._growth.grow(requests)
            for request in requests:
                self._submit(request)
            forward = self._target.submit(requests)
            self._growth.grow(requests, forward)
            for request in requests:
                if request.prefill:
                    request.prefill.result()
                    request.prefill = None
            walks = self._target.verify(requests, forward.result())
            progress = [self._commit(*each) for each in zip(requests, walks, strict=True)]
            self._follow(requests, walks, began, spans_before)
        return progress

    def _submit(self, request: Request) -> None:
        policy, tree = request.policy, request.tree
        answer = policy.submit(tree)
        try:
            tree.submit(answer, self._target.max_rows)
        except ValueError as error:
            raise nonsense(policy, error) from error

    def _commit(self, request: Request, walk: Walk) -> Progress:
        tree, stats = request.tree, request.stats
        accepted = tree.tokens(walk.path[1:])
        tokens, text = request.transcript.commit([*accepted, walk.next_token])
        request.committed += tokens
        stats.count_walk(tree, walk, len(tokens))
        return Progress(tokens, text)

    def _follow(
        self, requests: Sequence[Request], walks: Sequence[Walk], began: float, spans_before: int
    ) -> None:
        """Let caches, trees and policies follow what was committed, where a request goes on."""
        outlooks = self._target.outlooks(requests, walks)
        live = [
            each for each in zip(requests, walks, outlooks, strict=True) if not each[0].finished
        ]
        if not live:
            return
        going, theirs, _ = zip(*live, strict=True)
        rolled_back = self._target.keep(going, theirs)
        self._growth.keep(going, theirs)
        rolled_back.result()
        cost_ratio = self._trace.cost_ratio(RECENT_SPANS)
        seconds, spans = self._lanes.now() - began, self._trace.spans[spans_before:]
        for request, walk, outlook in live:
            submitted = len(request.tree.submitted) - 1
            request.stats.count_dropped(
                *request.tree.reroot(walk.path, walk.winner, walk.next_token)
            )
            request.tree.remaining = request.transcript.remaining
            request.policy.observe(
                Outcome(
                    hit=walk.winner >= 0,
                    accepted=len(walk.path) - 1,
                    submitted=submitted,
                    cost_ratio=cost_ratio,
                    seconds=seconds,
                    spans=spans,
                    outlook=outlook,
                )
            )
