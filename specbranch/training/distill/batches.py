"""A corpus in memory, split by prompt, and its passages packed into rows for training."""

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
    """Rows of passages end to end, each seeing itself alone.

    tokens, positions: int64 [R, L]. visible: bool [R, 1, L, L]. rows, columns: int64 [m], the
    places whose next token belongs to an answer. hidden: [m, H], the target's states there.
    """

    tokens: Tensor
    positions: Tensor
    visible: Tensor
    rows: Tensor
    columns: Tensor
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
    examples: Sequence[Example], *, rows: int, length: int, seed: int
) -> Iterator[Batch]:
    """Every example once, in an order given by the seed; longer ones are cut to `length`."""
    order = list(examples)
    random.Random(seed).shuffle(order)
    packed = _first_fit(order, length)
    for start in range(0, len(packed), rows):
        yield make_batch(packed[start : start + rows], length)


def _first_fit(examples: Sequence[Example], length: int) -> list[list[Example]]:
    """Rows of examples, each put into the first row that has room for it."""
    packed: list[list[Example]] = []
    room: list[int] = []
    for example in examples:
        n = min(len(example.tokens), length)
        place = next((at for at, free in enumerate(room) if free >= n), len(packed))
        if place == len(packed):
            packed.append([])
            room.append(length)
        packed[place].append(example)
        room[place] -= n
    return packed


def make_batch(packed: Sequence[Sequence[Example]], length: int) -> Batch:
    """Lay out rows of examples; what is left of a row is padding that sees itself alone."""
    tokens = torch.zeros(len(packed), length, dtype=torch.int64)
    positions = torch.zeros_like(tokens)
    owner = torch.arange(length, 2 * length).repeat(len(packed), 1)
    rows, columns, hidden = [], [], []
    for row, examples in enumerate(packed):
        start = 0
        for number, example in enumerate(examples):
            n = min(len(example.tokens), length)
            place = slice(start, start + n)
            tokens[row, place] = example.tokens[:n]
            positions[row, place] = torch.arange(n)
            owner[row, place] = number
            first = min(example.answer_start - 1, n)
            columns.append(torch.arange(start + first, start + n))
            rows.append(torch.full((n - first,), row))
            hidden.append(example.hidden[first:n])
            start += n
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    visible = (owner[:, :, None] == owner[:, None, :]) & causal
    return Batch(
        tokens,
        positions,
        visible[:, None],
        torch.cat(rows),
        torch.cat(columns),
        torch.cat(hidden),
    )
