"""A corpus in memory, split by prompt, and its passages laid end to end for training."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from specbranch.training.distill.corpus import Corpus, Shard, read_shard

HELD_OUT_EVERY = 20


@dataclass(frozen=True, slots=True)
class Example:
    """A passage: tokens int32 [n], the target's last hidden states [n, H], the answer's start."""

    tokens: Tensor
    hidden: Tensor
    answer_start: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Passages end to end, each of which sees itself alone.

    tokens, positions: int64 [n]. lengths: of the passages. places: int64 [m], those whose next
    token belongs to an answer. hidden: [m, H], the target's states there.
    """

    tokens: Tensor
    positions: Tensor
    lengths: tuple[int, ...]
    places: Tensor
    hidden: Tensor


def read_examples(corpus: Corpus) -> tuple[list[Example], list[Example]]:
    """Examples to train on, and greedy ones of the held-out prompts, every 20th.

    Raises ValueError if either are missing.
    """
    training: list[Example] = []
    held_out: list[Example] = []
    for path in corpus.shards():
        shard = read_shard(path)
        for index, (prompt, greedy) in enumerate(
            zip(shard.prompts.tolist(), shard.greedy.tolist(), strict=True)
        ):
            if prompt % HELD_OUT_EVERY:
                training.append(_example(shard, index))
            elif greedy:
                held_out.append(_example(shard, index))
    if not training or not held_out:
        raise ValueError(
            f"data: expected passages to train on and greedy ones of held-out prompts in "
            f"{corpus.folder}, got {len(training)} and {len(held_out)}"
        )
    return training, held_out


def _example(shard: Shard, index: int) -> Example:
    start, end = shard.starts[index : index + 2].tolist()
    answer_start = int(shard.answer_starts[index])
    return Example(shard.tokens[start:end], shard.hidden[start:end], answer_start)


def shuffled_batches(
    examples: Sequence[Example], *, tokens: int, length: int, seed: int
) -> Iterator[Batch]:
    """Every example once, in an order given by the seed; longer ones are cut to `length`.

    tokens: of a batch, at most, unless one example has more.
    """
    order = list(examples)
    random.Random(seed).shuffle(order)
    batch: list[Example] = []
    n = 0
    for example in order:
        more = min(len(example.tokens), length)
        if batch and n + more > tokens:
            yield make_batch(batch, length)
            batch, n = [], 0
        batch.append(example)
        n += more
    yield make_batch(batch, length)


def make_batch(examples: Sequence[Example], length: int) -> Batch:
    """Lay out examples, each cut to `length`."""
    lengths = tuple(min(len(example.tokens), length) for example in examples)
    places, hidden = [], []
    start = 0
    for example, n in zip(examples, lengths, strict=True):
        first = min(example.answer_start - 1, n)
        places.append(torch.arange(start + first, start + n))
        hidden.append(example.hidden[first:n])
        start += n
    return Batch(
        torch.cat([example.tokens[:length] for example in examples]).long(),
        torch.cat([torch.arange(n) for n in lengths]),
        lengths,
        torch.cat(places),
        torch.cat(hidden),
    )
