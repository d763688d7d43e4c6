"""The draft model as a source: its forwards over the nodes of a step, and what it says of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch

from specbranch import ops
from specbranch.lanes import Lane
from specbranch.models.block import BlockRows, Keep
from specbranch.models.runner import ModelRunner
from specbranch.request import Request
from specbranch.rules import Columns, under_rules
from specbranch.sources.ranking import RankedRows, Ranker
from specbranch.sources.source import Guesses, Source, Wanted, by_coupling, read_apart
from specbranch.trace import Label


class ModelSource(Source):
    """Runs the draft model on its lane.

    runner: the draft and its cache. max_fan: guesses ranked per node.
    vocab_size: of the target; guesses stay below it.
    """

    draws = True

    def __init__(self, runner: ModelRunner, max_fan: int, vocab_size: int) -> None:
        self.max_nodes = self.max_steps = runner.max_nodes
        self._runner = runner
        max_rows = runner.max_requests * runner.max_nodes
        self._ranker = Ranker(max_rows, max_fan, runner.device, runner.token_ids)
        self._vocab_size = min(vocab_size, runner.vocab_size)
        self._target_vocab_size = vocab_size
        self._columns = Columns(self._vocab_size, runner.token_ids)

    def has_room(self, request: Request) -> bool:
        return self._runner.has_room(request.max_len)

    def room(self, request: Request) -> int:
        """Committed tokens that the draft lacks take slots beside the root."""
        behind = len(request.committed) - 1 - request.draft.context_len
        return max(1, self.max_nodes - behind)

    def begin(self, request: Request) -> None:
        request.draft = self._runner.open(request.max_len, self._known(request.prompt[:-1]))

    def end(self, request: Request) -> None:
        self._runner.close(request.draft)

    def read(self, lane: Lane, request: Request) -> bool:
        block = request.draft
        if read_apart(request, block.context_len, self.max_nodes):
            committed = self._known(request.committed[:-1])
            lane.run(Label.PREFILL, lambda: self._runner.read_chunk(block, committed))
        return not read_apart(request, block.context_len, self.max_nodes)

    def guess(self, lane: Lane, wanted: Sequence[Wanted], steps: int) -> Guesses:
        """A step reads its token where the one before wrote it, so that the lane goes on by itself
        and the host waits once, however many steps there are."""
        batch = [self._rows(*each) for each in wanted]
        ranked = _ranked_rows(wanted, steps)
        count = sum(len(nodes) for _, nodes in wanted)
        rows = sum(len(each.tokens) for each in batch)
        work = partial(self._first_step, wanted, batch, ranked)
        pending = []
        for step in range(1, steps):
            pending.append(lane.submit(Label.DRAFT, work, rows=rows))
            work, rows = partial(self._next_step, wanted, batch, step * count), count
        guesses = lane.run(Label.DRAFT, partial(self._fetched, work, steps * count), rows=rows)
        for before in pending:
            before.result()
        return guesses

    def keep(self, lane: Lane, kept: Sequence[tuple[Request, Sequence[int], int]]) -> None:
        batch = [
            Keep(request.draft, slots, n_context)
            for request, slots, n_context in kept
            if len(request.draft)
        ]
        if batch:
            lane.run(Label.COMMIT, lambda: self._runner.keep(batch))
        for request, slots, n_context in kept:
            if request.laws:
                request.laws = [request.laws[slot] for slot in slots[n_context:]]

    def _rows(self, request: Request, nodes: Sequence[int]) -> BlockRows:
        """The nodes, behind committed tokens that the draft lacks before the root."""
        block = request.draft
        tokens, parents = request.tree.draft_rows(nodes)
        if nodes[0] == 0 and (catch_up := request.committed[block.context_len : -1]):
            tokens = [*catch_up, *tokens]
            parents = [*range(-1, len(catch_up) - 1), *(slot + len(catch_up) for slot in parents)]
        return BlockRows(block, self._known(tokens), parents, len(nodes))

    def _known(self, tokens: Sequence[int]) -> list[int]:
        """Tokens for the draft: one beyond a narrower vocabulary becomes some other, which makes
        its guesses worse and is no error."""
        size = self._runner.vocab_size
        return [token % size for token in tokens]

    def _first_step(
        self, wanted: Sequence[Wanted], batch: Sequence[BlockRows], ranked: Sequence[RankedRows]
    ) -> None:
        logits = self._runner.forward(batch)
        self._ranker.prepare(ranked)
        self._rank(wanted, logits, 0)
        caught_up = [
            Keep(each.block, range(len(each.tokens)), len(each.tokens) - each.logits_rows)
            for each in batch
            if len(each.tokens) > each.logits_rows
        ]
        if caught_up:
            self._runner.keep(caught_up)

    def _next_step(
        self, wanted: Sequence[Wanted], batch: Sequence[BlockRows], first_row: int
    ) -> None:
        """Compute the first choices of the step before, which only the device knows."""
        tokens = self._ranker.first_choices(first_row - len(batch), len(batch))
        links = [BlockRows(each.block, [0], [len(each.block) - 1], 1) for each in batch]
        self._rank(wanted, self._runner.forward(links, tokens=tokens), first_row)

    def _rank(self, wanted: Sequence[Wanted], logits: torch.Tensor, first_row: int) -> None:
        """Rank a step's rows, and note the laws that their guesses were drawn from."""
        logits, positions = logits[:, : self._vocab_size], self._runner.next_positions
        logits = under_rules(logits, self._columns, wanted)
        start = 0
        for coupling, requests in by_coupling(wanted):
            count = sum(len(nodes) for _, nodes in requests)
            rows = slice(start, start + count)
            laws = self._ranker.rank(logits[rows], positions[rows], coupling, first_row + start)
            start += count
            if laws is not None:
                drawn_from = iter(self._in_target_vocabulary(laws))
                for request, nodes in requests:
                    request.laws += [next(drawn_from) for _ in nodes]

    def _in_target_vocabulary(self, laws: torch.Tensor) -> torch.Tensor:
        """Laws [n, columns of the draft] as laws over the target's tokens."""
        if self._runner.token_ids is None and laws.shape[1] == self._target_vocab_size:
            return laws
        wide = laws.new_zeros(len(laws), self._target_vocab_size)
        if self._runner.token_ids is None:
            wide[:, : laws.shape[1]] = laws
        else:
            wide[:, self._runner.token_ids.long()] = laws
        return wide

    def _fetched(self, work: Callable[[], None], rows: int) -> Guesses:
        work()
        return self._ranker.fetch(rows)


def _ranked_rows(wanted: Sequence[Wanted], steps: int) -> list[RankedRows]:
    """How the rows of all steps are ranked. Under rejection every row draws with noise of its own:
    shared noise would be biased as soon as a policy looks at the draws."""
    rows = []
    for _ in range(steps):
        for request, nodes in wanted:
            params, n = request.params, len(nodes)
            seeds = [params.seed] * n
            if params.effective_coupling == "rejection":
                draws = range(request.draws + 1, request.draws + 1 + n)
                seeds = [ops.mix(params.seed, draw) for draw in draws]
                request.draws += n
            rows.append(RankedRows(params, seeds))
    return rows
