"""Storing what a target writes, with a progress bar over its tokens."""

from __future__ import annotations

from collections.abc import Iterator

from specbranch.cli.progress import progress_bar
from specbranch.training.distill.corpus import Corpus
from specbranch.training.distill.generate import Written

SHARD_TOKENS = 20_000


def store(passages: Iterator[Written], corpus: Corpus, tokens: int, seed: int, begun: int) -> None:
    """Add passages to the corpus, a shard at a time, until they have so many tokens.

    begun: passages of this seed that were begun before the first of these is finished.
    """
    shard: list[Written] = []
    try:
        with progress_bar() as bar:
            task = bar.add_task("tokens", total=tokens)
            while not bar.finished:
                passage = next(passages)
                begun += 1
                shard.append(passage)
                bar.advance(task, len(passage.tokens))
                if sum(len(each.tokens) for each in shard) >= SHARD_TOKENS:
                    full, shard = shard, []
                    corpus.add(full, seed, begun)
    finally:  # what is finished stays, whatever ended it
        if shard:
            corpus.add(shard, seed, begun)
