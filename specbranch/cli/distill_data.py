"""`specbranch distill-data`: a progress bar over the tokens written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from specbranch.cli.loading import load_target
from specbranch.cli.progress import progress_bar
from specbranch.distill.corpus import Corpus
from specbranch.distill.generate import BatchedWriter, Written
from specbranch.distill.passages import Frame, PassageWriter
from specbranch.models.pair import eos_token_ids
from specbranch.prompts import read_prompts

SHARD_TOKENS = 20_000


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of a message and of an answer, at most."""

    message: int
    answer: int


def write_data(
    target: str, prompts: Path, out: Path, tokens: int, batch: int, lengths: Lengths, seed: int
) -> None:
    """Run the command."""
    records = read_prompts(prompts)
    model, tokenizer = load_target(target, torch.bfloat16)
    writer = PassageWriter(
        [tokenizer.encode(record.prompt, add_special_tokens=False) for record in records],
        Frame.of(tokenizer),
        eos_token_ids(model, tokenizer),
        max_message=lengths.message,
        max_answer=lengths.answer,
    )
    corpus = Corpus(out)
    first = corpus.next_passage(seed)
    written = BatchedWriter(model, writer, writer.passages(seed, first), batch=batch).finished()
    begun = first + batch
    shard: list[Written] = []
    with progress_bar() as bar:
        task = bar.add_task("tokens", total=tokens)
        while not bar.finished:
            passage = next(written)
            begun += 1
            shard.append(passage)
            bar.advance(task, len(passage.tokens))
            if bar.finished or sum(len(each.tokens) for each in shard) >= SHARD_TOKENS:
                corpus.add(shard, seed, begun)
                shard = []
