"""The round loop. There is one; what distinguishes the methods is their policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import NamedTuple

from specbranch.costs.learnt import RecentRatio
from specbranch.growth import Growth, blamed
from specbranch.lanes import Lanes
from specbranch.models.runner import PREFILL_CHUNK
from specbranch.policies.base import Outcome, Outlook
from specbranch.request import Chunk, Request
from specbranch.trace import Label, Span, Trace
from specbranch.tree import Walk
from specbranch.verifier import Target


class Settlement(NamedTuple):
    """A request that goes on after a round."""

    request: Request
    walk: Walk
    outlook: Outlook | None


@dataclass(slots=True)
class Totals:
    """Counts of a loop's rounds. walks: of single requests."""

    rounds: int = 0
    rows: int = 0
    tokens: int = 0
    walks: int = 0
    hits: int = 0

    def means(self) -> dict[str, float]:
        """rounds; rows and tokens of a round; hits of a walk."""
        rounds, walks = max(1, self.rounds), max(1, self.walks)
        return {
            "rounds": self.rounds,
            "rows": self.rows / rounds,
            "tokens": self.tokens / rounds,
            "hit_rate": self.hits / walks,
        }


class RoundLoop:
    """Rounds of live requests together: grow, submit, grow on, verify, re-root.

    Between rounds both models' caches hold exactly a request's committed tokens before the root,
    plus the draft's block of its tree's expanded nodes.

    What goes wrong for one request alone ends that one: it is told in `Request.error`, and the
    others go on.

    totals: what all rounds so far came to.
    """

    def __init__(self, growth: Growth, target: Target, lanes: Lanes) -> None:
        self._growth = growth
        self._target = target
        self._lanes = lanes
        self._trace = Trace()
        self._recent = RecentRatio()
        self._num_requests = 0
        self.totals = Totals()

    def has_room(self, request: Request) -> bool:
        """Whether `begin` would find room in both models' caches."""
        return self._target.has_room(request) and self._growth.has_room(request)

    def begin(self, request: Request) -> None:
        """Take a request in. Raises ValueError, and takes nothing, where there is no room."""
        if not self._num_requests:
            self._trace, self._recent = self._lanes.begin(), RecentRatio()
        request.began = self._lanes.now()
        self._growth.begin(request)
        try:
            self._target.begin(request)
        except BaseException:
            self._growth.end(request)
            raise
        self._num_requests += 1

    def end(self, request: Request) -> None:
        """Let a request go, finished or not; it gives back what it took."""
        self._growth.end(request)
        self._target.end(request)
        self._num_requests -= 1
        request.stats.finish(self._lanes.now() - request.began, request.trace)

    def drain(self) -> None:
        """Wait until the lanes are idle, after a round that was cut short."""
        self._lanes.drain()

    def step(self, requests: Sequence[Request]) -> None:
        """One round: prompts are read, a chunk's tokens at most; requests that have read theirs get
        some tokens, which join `Request.output`.

        A lane that fails ends all requests of the round.
        """
        began = self._lanes.now()
        with self._lanes.round():
            readers = _readers(requests)
            for request in readers:
                self._read(request)
            # An op serves one coupling at a time.
            ready = sorted((each for each in requests if each.ready), key=_coupling)
            settled = self._settled(ready)
            for request in readers:
                self._end_reading(request)
        spans = self._trace.spans.copy()
        for request in requests:
            request.trace.spans += spans if request.ready else _without_verdicts(spans)
        self._observe(settled, self._lanes.now() - began, spans)
        self._trace.spans.clear()

    def _read(self, request: Request) -> None:
        """Go on with a prompt, on both lanes."""
        try:
            all_read = self._target.read(request)
            request.ready = self._growth.read(request) and all_read
        except Exception as error:
            request.fail(error)

    def _end_reading(self, request: Request) -> None:
        try:
            if request.reading:
                request.reading.result()
        except Exception as error:
            request.fail(error)
        request.reading = None

    def _settled(self, requests: Sequence[Request]) -> list[Settlement]:
        try:
            return self._round(requests)
        except Exception as error:
            self._lanes.drain()
            for request in requests:
                request.fail(error)
            return []

    def _round(self, requests: Sequence[Request]) -> list[Settlement]:
        self._growth.grow(requests)
        submitted = self._submitted([request for request in requests if not request.error])
        if not submitted:
            return []
        forward = self._target.submit(submitted)
        self.totals.rounds += 1
        self.totals.rows += sum(len(request.tree.submitted) for request in submitted)
        self._growth.grow(submitted, forward)
        walks = self._target.verify(submitted, forward.result())
        for request, walk in zip(submitted, walks, strict=True):
            if walk:
                self._commit(request, walk)
        outlooks = self._target.outlooks(submitted, walks)
        settled = [
            Settlement(request, walk, outlook)
            for request, walk, outlook in zip(submitted, walks, outlooks, strict=True)
            if walk and not request.finished
        ]
        self._keep(settled)
        return settled

    def _submitted(self, requests: Sequence[Request]) -> list[Request]:
        """Submit what policies say; returns the requests that are sound."""
        if requests:
            policy = requests[0].policy
            try:
                policy.survey([request.tree for request in requests])
            except Exception as error:
                requests[0].fail(blamed(policy, error))
        return [request for request in requests if self._submit(request)]

    def _submit(self, request: Request) -> bool:
        policy, tree = request.policy, request.tree
        try:
            tree.submit(policy.submit(tree), self._target.max_rows)
        except Exception as error:
            request.fail(blamed(policy, error))
        return not request.error

    def _commit(self, request: Request, walk: Walk) -> None:
        if request.error:
            return
        tree = request.tree
        try:
            accepted = tree.tokens(walk.path[1:])
            tokens, text = request.transcript.commit([*accepted, walk.next_token])
        except Exception as error:
            request.fail(error)
            return
        request.committed += tokens
        if not request.stats.tokens:
            request.stats.first_token_s = self._lanes.now() - request.began
        request.stats.count_walk(tree, walk, len(tokens))
        self.totals.tokens += len(tokens)
        self.totals.walks += 1
        self.totals.hits += walk.winner >= 0
        logprobs = walk.logprobs[: len(tokens)]
        request.logprobs += logprobs
        if tokens:
            request.output.append(Chunk(tokens, text, logprobs))

    def _keep(self, settled: Sequence[Settlement]) -> None:
        """Let caches and trees follow what was committed, where a request goes on."""
        if not settled:
            return
        requests, walks, _ = zip(*settled, strict=True)
        rolled_back = self._target.keep(requests, walks)
        self._growth.keep(requests, walks)
        rolled_back.result()

    def _observe(
        self, settled: Sequence[Settlement], seconds: float, spans: Sequence[Span]
    ) -> None:
        """Re-root trees, and tell policies what the round came to."""
        cost_ratio = self._recent.after(spans)
        for request, walk, outlook in settled:
            submitted = len(request.tree.submitted) - 1
            request.stats.count_dropped(
                *request.tree.reroot(walk.path, walk.winner, walk.next_token)
            )
            request.tree.remaining = request.transcript.remaining
            outcome = Outcome(
                hit=walk.winner >= 0,
                accepted=len(walk.path) - 1,
                submitted=submitted,
                cost_ratio=cost_ratio,
                seconds=seconds,
                spans=spans,
                requests=len(settled),
                outlook=outlook,
            )
            try:
                request.policy.observe(outcome)
            except Exception as error:
                request.fail(error)


def _readers(requests: Sequence[Request]) -> list[Request]:
    """Whose prompts go on: the first that is unread, and those after it that fit beside it in the
    tokens of a chunk, so that the others' pause is bounded."""
    unread = [request for request in requests if not request.ready]
    tokens = accumulate(len(request.prompt) for request in unread)
    fitting = sum(1 for _ in takewhile(lambda count: count <= PREFILL_CHUNK, tokens))
    return unread[: max(1, fitting)]


def _without_verdicts(spans: Sequence[Span]) -> list[Span]:
    """What a request that only reads has part in."""
    return [span for span in spans if span.label != Label.VERIFY]


def _coupling(request: Request) -> str:
    return request.params.effective_coupling
