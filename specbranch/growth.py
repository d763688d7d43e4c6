"""Growing trees: what a source guesses becomes nodes, and what was verified makes guesses truer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from specbranch.checks import is_integer
from specbranch.lanes import Lane
from specbranch.policies.base import Policy
from specbranch.request import Request
from specbranch.sources.ngram import NGramSource
from specbranch.sources.source import Guesses, Source, Wanted
from specbranch.tree import Reliability, Walk


class Experience:
    """What all requests so far taught about guesses, greedy and sampled ones apart."""

    def __init__(self) -> None:
        self._learnt = {"greedy": Reliability(), "sampled": Reliability()}

    def of(self, request: Request) -> Reliability:
        """What a new request starts from. Where guesses are drawn that is nothing: the draws depend
        on what is grown, and a request's text must not depend on those before it."""
        if request.drawn:
            return Reliability("rejection")
        return self._learnt["sampled" if request.params.temperature > 0 else "greedy"]


class Forward(Protocol):
    """What growth asks of the target's forward."""

    def done(self) -> bool:
        """Whether the target has answered."""
        ...


class Growth:
    """Grows requests' trees as their policies say, from one source.

    lane: where the source works.
    ngrams: guesses beside it, which need no forward; None for none.
    """

    def __init__(
        self,
        source: Source,
        lane: Lane,
        experience: Experience,
        ngrams: NGramSource | None = None,
    ) -> None:
        self._source = source
        self._lane = lane
        self._experience = experience
        self._ngrams = ngrams

    def has_room(self, request: Request) -> bool:
        """Whether `begin` would find room for a request now."""
        return self._source.has_room(request)

    def begin(self, request: Request) -> None:
        """Take a request in."""
        request.reliability = self._experience.of(request)
        self._source.begin(request)
        if self._ngrams:
            self._ngrams.begin(request)

    def end(self, request: Request) -> None:
        """Let a request go."""
        self._source.end(request)
        if self._ngrams:
            self._ngrams.end(request)

    def read(self, request: Request) -> bool:
        """Let the source read a chunk of the prompt, if the policy will ever ask it. Returns
        whether nothing keeps the request from growing."""
        return not request.policy.drafts or self._source.read(self._lane, request)

    def grow(self, requests: Sequence[Request], forward: Forward | None = None) -> None:
        """Expand nodes, one draft step after another, until every policy has stopped or the target
        has answered `forward`; without one the target is idle.

        A request whose policy raises, or answers what makes no sense, fails.
        """
        busy, step = forward is not None, 0
        if self._ngrams and not busy:
            for request in requests:
                if request.policy.drafts and not request.error:
                    self._ngrams.match_chain(request)
        while forward is None or not forward.done():
            wanted = [
                Wanted(request, nodes)
                for request in requests
                if (nodes := self._nodes(request, busy, step))
            ]
            if not wanted:
                return
            requests = [request for request, _ in wanted]
            steps = min(self._stretch(each, busy, step) for each in wanted)
            guesses = self._source.guess(self._lane, wanted, steps)
            self._attach(wanted, guesses, steps)
            for request in requests:
                request.stats.draft_forwards += steps
            step += steps

    def keep(self, requests: Sequence[Request], walks: Sequence[Walk]) -> None:
        """Learn from verified walks and let the source follow them, before the trees do."""
        kept = []
        for request, walk in zip(requests, walks, strict=True):
            request.tree.teach(walk.path, walk.winner, request.reliability)
            kept.append((request, *request.tree.keep(walk.path, walk.winner)))
        self._source.keep(self._lane, kept)

    def _nodes(self, request: Request, busy: bool, step: int) -> list[int]:
        """The nodes that a request's policy wants expanded next, as far as there is room."""
        tree, policy = request.tree, request.policy
        if request.error:
            return []
        try:
            nodes = tree.growable(policy.grow(tree, busy, step), self._source.room(request))
        except Exception as error:
            request.fail(blamed(policy, error))
            return []
        if nodes[:1] == [0] and not self._source.read(self._lane, request):
            return []
        return nodes

    def _stretch(self, wanted: Wanted, busy: bool, step: int) -> int:
        """Draft steps to take at once: as the policy says, within the block and the request. Rules
        need to know the tokens before each."""
        (request, nodes), source = wanted, self._source
        if len(nodes) > 1 or source.max_steps == 1 or request.rules:
            return 1
        tree, policy = request.tree, request.policy
        try:
            answer = policy.stretch(tree, busy, step)
            if not is_integer(answer, 0):
                raise ValueError(f"stretch: expected an integer >= 0, got {answer!r}")
        except Exception as error:
            request.fail(blamed(policy, error))
            return 1
        room = min(source.max_steps, source.max_nodes - tree.num_expanded)
        return max(1, min(answer, room, tree.remaining - len(tree.path(nodes[0]))))

    def _attach(self, wanted: Sequence[Wanted], guesses: Guesses, steps: int) -> None:
        if steps > 1:
            for place, (request, (tip,)) in enumerate(wanted):
                rows = range(place, steps * len(wanted), len(wanted))
                self._attach_chain(request, tip, guesses, rows)
            return
        row = 0
        for request, nodes in wanted:
            self._expand(request, nodes, guesses, row)
            row += len(nodes)

    def _attach_chain(
        self, request: Request, tip: int, guesses: Guesses, rows: Sequence[int]
    ) -> None:
        """The tip, and then each time the first guess of the node before. What lies below a node
        that ends the request is lost."""
        tree, node = request.tree, tip
        for row in rows:
            if node < 0 or not tree.expandable(node):
                self._source.keep(self._lane, [(request, range(tree.num_expanded), 0)])
                return
            self._expand(request, [node], guesses, row)
            node = tree.first_guess(node)

    def _expand(
        self, request: Request, nodes: Sequence[int], guesses: Guesses, first_row: int
    ) -> None:
        tree, policy = request.tree, request.policy
        tree.expand(nodes, *guesses, first_row, request.reliability)
        try:
            tree.attach(policy.fan(tree, nodes))
        except Exception as error:
            request.fail(blamed(policy, error))
            return
        if self._ngrams:
            for node in nodes:
                self._ngrams.match(request, node)


def blamed(policy: Policy, error: Exception) -> Exception:
    """What to tell of an error that a policy or its answer made."""
    if isinstance(error, ValueError):
        return ValueError(f"policy {policy.name}: {error}")
    return error
