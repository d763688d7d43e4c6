"""Text written by a target in batches, with the hidden states that its laws follow from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor
from transformers import PreTrainedModel

from specbranch import ops
from specbranch.models.attention import ATTENTION_NAME, BlockPass
from specbranch.models.kv_pool import KVPool
from specbranch.models.support import cache_argument, kv_shape
from specbranch.training.distill.head import Head
from specbranch.training.distill.passages import Passage, PassageWriter

PAGE_SIZE = 64


@dataclass(frozen=True, slots=True)
class Written:
    """A finished passage.

    tokens: int32 [n]. hidden: the target's last hidden states [n, H]; its head makes of row i the
    logits of the token after i. answer_start: index of the answer's first token. prompt, greedy:
    which prompt it started from, and whether the answer was written at temperature 0.
    """

    tokens: Tensor
    hidden: Tensor
    answer_start: int
    prompt: int
    greedy: bool


class BatchedWriter:
    """Writes `batch` passages at a time; a finished one gives its place to the next.

    Prompts are fed token by token like all else, so every forward is full and nothing is padded.

    model: the target on CPU, in the dtype to compute and store in; switched to our attention.
    writer: how passages go. source: the passages to write, without end.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        writer: PassageWriter,
        source: Iterator[Passage],
        *,
        batch: int,
    ) -> None:
        shape = kv_shape(model)
        self._model = model
        self._head = Head.of(model)
        self._writer = writer
        self._source = source
        pages = -(-writer.max_len // PAGE_SIZE)
        self._pool = KVPool(
            shape.num_layers,
            shape.num_kv_heads,
            shape.head_dim,
            num_pages=batch * pages,
            page_size=PAGE_SIZE,
            dtype=model.dtype,
            device=model.device,
        )
        self._block_table = torch.arange(batch * pages, dtype=torch.int32).view(batch, pages)
        self._row_indptr = torch.arange(batch + 1, dtype=torch.int32)
        model.eval()
        model.set_attn_implementation(ATTENTION_NAME)
        hidden_size = model.get_output_embeddings().in_features
        self._hidden = torch.zeros(batch, writer.max_len, hidden_size, dtype=model.dtype)
        self._fed = torch.zeros(batch, dtype=torch.int32)
        self._ones = torch.ones(batch, dtype=torch.int32)
        self._row_indptr = torch.arange(batch + 1, dtype=torch.int32)
        self._passages = list(islice(source, batch))

    @torch.inference_mode()
    def finished(self) -> Iterator[Written]:
        """Passages as they end."""
        while True:
            hidden = self._forward()
            self._hidden[torch.arange(len(hidden)), self._fed] = hidden
            self._fed += 1
            fed = self._fed.tolist()
            for place, token in self._draw(hidden, fed):
                passage = self._passages[place]
                if not self._writer.extend(passage, token):
                    yield self._written(place, fed[place])
                    self._passages[place] = next(self._source)
                    self._fed[place] = 0

    def _forward(self) -> Tensor:
        """Feed each passage's next token: its last hidden state [B, H]."""
        fed = self._fed
        tokens = [
            passage.tokens[at] for passage, at in zip(self._passages, fed.tolist(), strict=True)
        ]
        rows = BlockPass(
            self._pool,
            block_table=self._block_table,
            context_lens=fed,
            start=fed,
            n_nodes=self._ones,
            row_indptr=self._row_indptr,
            ancestor_mask=self._ones[:, None],
        )
        output = self._model.base_model(
            input_ids=torch.tensor(tokens)[None],
            position_ids=fed[None].long(),
            attention_pass=rows,
            use_cache=True,
            **{cache_argument(self._model): rows},
        )
        hidden: Tensor = output.last_hidden_state[0]
        return hidden

    def _draw(self, hidden: Tensor, fed: list[int]) -> list[tuple[int, int]]:
        """The next token of every passage whose known tokens are all fed, with its place."""
        places = [
            place
            for place, (passage, at) in enumerate(zip(self._passages, fed, strict=True))
            if at == len(passage.tokens)
        ]
        if not places:
            return []
        passages = [self._passages[place] for place in places]
        n = len(places)
        tokens = ops.sample(
            self._head(hidden[places]),
            torch.tensor([self._writer.temperature(passage) for passage in passages]),
            torch.zeros(n, dtype=torch.int32),
            torch.ones(n),
            torch.zeros(n),
            torch.tensor([passage.seed for passage in passages]),
            self._fed[places],
        )
        return list(zip(places, tokens.tolist(), strict=True))

    def _written(self, place: int, fed: int) -> Written:
        passage = self._passages[place]
        assert passage.answer_start is not None
        return Written(
            tokens=torch.tensor(passage.tokens[:fed], dtype=torch.int32),
            hidden=self._hidden[place, :fed].clone(),
            answer_start=passage.answer_start,
            prompt=passage.prompt,
            greedy=passage.temperature == 0,
        )
