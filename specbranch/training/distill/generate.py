"""Text that a target writes in batches, and the hidden states that decided its answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from specbranch.costs.model import CostModel
from specbranch.engine import Engine
from specbranch.generation import GenerationStream
from specbranch.lanes import Lane, VirtualLanes
from specbranch.loading.pair import ModelPair
from specbranch.policies import Autoregressive
from specbranch.request import Request
from specbranch.sources import Guesses, Source, Wanted
from specbranch.training.distill.passages import Passage, PassageWriter


@dataclass(frozen=True, slots=True)
class Written:
    """A finished passage.

    tokens: int32 [n], all but its last one. hidden: the target's last hidden states [n, H]; its
    head makes of row i the logits of the token after i. Only those are there that decided a token
    of the answer, the rows from answer_start - 1 on; the others are zero. answer_start: index of
    the answer's first token. prompt, greedy: which prompt it started from, and whether the answer
    was written at temperature 0.
    """

    tokens: Tensor
    hidden: Tensor
    answer_start: int
    prompt: int
    greedy: bool


class HiddenRows(Source):
    """Guesses nothing, but keeps the hidden row that each token of a request was decided by.

    ended: rows [n, H], before the model's final norm, of requests that have ended, by their seed.
    """

    max_nodes = 1
    hidden_layers = 1

    def __init__(self) -> None:
        self._rows: dict[Request, list[Tensor]] = {}
        self.ended: dict[int, Tensor] = {}

    def begin(self, request: Request) -> None:
        self._rows[request] = []

    def keep(self, lane: Lane, kept: Sequence[tuple[Request, Sequence[int], int]]) -> None:
        for request, _, _ in kept:
            assert request.hidden is not None
            self._rows[request].append(request.hidden)

    def end(self, request: Request) -> None:
        """Its last round has kept nothing."""
        last = [] if request.hidden is None else [request.hidden]
        if rows := self._rows.pop(request) + last:
            self.ended[request.params.seed] = torch.cat(rows)

    def guess(self, lane: Lane, wanted: Sequence[Wanted], steps: int) -> Guesses:
        return Guesses.of([{} for _, nodes in wanted for _ in nodes], 1)


class BatchedWriter:
    """Writes `batch` passages at a time, by plain decoding; a finished one gives its place to the
    next.

    pair: its target writes, and no draft is needed. writer: how passages go. source: the passages
    to write, without end.
    """

    def __init__(
        self, pair: ModelPair, writer: PassageWriter, source: Iterator[Passage], *, batch: int
    ) -> None:
        self._pair = pair
        self._writer = writer
        self._source = source
        self._batch = batch

    def finished(self) -> Iterator[Written]:
        """Passages as they end."""
        rows = HiddenRows()
        # Work runs in this thread, on whatever cores torch uses: writers stand side by side.
        lanes = VirtualLanes(CostModel.parse("virtual:c=1"))
        with Engine(
            self._pair,
            Autoregressive(),
            source=rows,
            lanes=lanes,
            max_requests=self._batch,
            max_len=self._writer.max_len,
            max_nodes=1,
            reuse_prefixes=False,
        ) as engine:
            passages = list(islice(self._source, self._batch))
            streams = [self._continued(engine, passage) for passage in passages]
            while True:
                engine.step()
                for place, stream in enumerate(streams):
                    if not (generation := stream.generation):
                        continue
                    if generation.error:
                        raise generation.error
                    passage = passages[place]
                    hidden = rows.ended.pop(passage.seed, None)
                    if not self._writer.extend(passage, generation.token_ids):
                        assert hidden is not None
                        yield self._written(passage, hidden)
                        passages[place] = next(self._source)
                    streams[place] = self._continued(engine, passages[place])

    def _continued(self, engine: Engine, passage: Passage) -> GenerationStream:
        return engine.stream(passage.tokens, self._writer.params(passage))

    @torch.inference_mode()
    def _written(self, passage: Passage, answer: Tensor) -> Written:
        decoder: Any = self._pair.target.base_model
        assert passage.answer_start is not None
        tokens = torch.tensor(passage.tokens[:-1], dtype=torch.int32)
        hidden = answer.new_zeros(len(tokens), answer.shape[1])
        hidden[passage.answer_start - 1 :] = decoder.norm(answer)
        return Written(
            tokens, hidden, passage.answer_start, passage.prompt, passage.temperature == 0
        )
