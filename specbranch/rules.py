"""What a request's own text does to its next token: biases, a least length, penalties.

A rule changes a row of logits as a function of the text before the token that the row decides: the
prompt, the output so far and, inside the tree, the row's own ancestors. So a row's logits are those
of plain decoding, whatever other rows there are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specbranch.models.transfers import sent
from specbranch.sampling import SamplingParams

if TYPE_CHECKING:
    from specbranch.request import Request

Paths = Sequence[Sequence[int]]
Integers = NDArray[np.integer[Any]]


class Columns:
    """Where tokens stand in a row of logits, found when a rule first asks.

    token_ids: int32 [width], the token of each column, None where it is the column's number.
    in_bitmask: word and bit of each column's token, where every token has a bit, 32 a word.
    """

    def __init__(self, width: int, token_ids: Tensor | None = None) -> None:
        self._width = width
        self._token_ids = token_ids

    @cached_property
    def in_bitmask(self) -> tuple[Integers, Integers]:
        return self._tokens // 32, (self._tokens % 32).astype(np.int32)

    @cached_property
    def _tokens(self) -> Integers:
        if self._token_ids is None:
            return np.arange(self._width)
        tokens: Integers = self._token_ids[: self._width].cpu().numpy()
        return tokens

    @cached_property
    def _columns(self) -> Integers:
        """By token."""
        columns = np.full(self._tokens.max() + 1, -1)
        columns[self._tokens] = np.arange(len(self._tokens))
        return columns

    def of(self, tokens: Sequence[int]) -> Integers:
        """The column of each token, -1 where it has none."""
        wanted = np.asarray(tokens, np.int64)
        known = wanted < len(self._columns)
        return np.where(known, self._columns[np.where(known, wanted, 0)], -1)


class Rule(Protocol):
    def apply_(self, logits: Tensor, columns: Columns, committed: list[int], paths: Paths) -> None:
        """Change logits float32 [n, width] in place, a row for each path.

        committed: prompt and output so far, the same as last time or longer. paths: the tokens from
        there to the row's node, this included.
        """
        ...


class Bias:
    """What is added to the logits of some tokens."""

    def __init__(self, biases: Mapping[int, float]) -> None:
        self._biases = {int(token): float(bias) for token, bias in biases.items()}

    def apply_(self, logits: Tensor, columns: Columns, committed: list[int], paths: Paths) -> None:
        at = columns.of(list(self._biases))
        biases = np.array(list(self._biases.values()), np.float32)[at >= 0]
        logits[:, sent(at[at >= 0], logits.device)] += sent(biases, logits.device)


class LeastLength:
    """No token that ends the text comes before the output has so many."""

    def __init__(self, ends: Collection[int], length: int) -> None:
        self._ends = sorted(ends)
        self._length = length

    def apply_(self, logits: Tensor, columns: Columns, committed: list[int], paths: Paths) -> None:
        short = [row for row, path in enumerate(paths) if len(committed) + len(path) < self._length]
        ends = columns.of(self._ends)
        if short:
            rows = sent(np.array(short), logits.device)
            logits[rows[:, None], sent(ends[ends >= 0], logits.device)] = -torch.inf


class Penalties:
    """Tokens of the text become less likely, or likelier.

    The logit of one in prompt or output is divided by `repetition_penalty`, multiplied where it is
    negative (Keskar et al. 2019). `frequency_penalty` for each time that it is in the output, and
    `presence_penalty` if it is, are then taken off, as OpenAI and vLLM do.
    """

    def __init__(self, params: SamplingParams, prompt: Sequence[int]) -> None:
        self._params = params
        self._read = len(prompt)
        # Each known token has a place: those of the prompt, where they count, come first.
        known = dict.fromkeys(prompt) if params.repetition_penalty != 1 else ()
        self._places = {token: place for place, token in enumerate(known)}
        self._num_repeated = len(self._places)
        self._counts = [0] * len(self._places)  # in the output

    def apply_(self, logits: Tensor, columns: Columns, committed: list[int], paths: Paths) -> None:
        for token in committed[self._read :]:
            self._counts[self._place(token)] += 1
        self._read = len(committed)
        guessed = [[self._place(token) for token in path] for path in paths]
        counts = np.tile(np.array(self._counts, np.float32), (len(paths), 1))
        for row, places in zip(counts, guessed, strict=True):
            for place in places:
                row[place] += 1
        at = columns.of(list(self._places))
        repeated = counts > 0
        repeated[:, : self._num_repeated] = True
        where = sent(at[at >= 0], logits.device)
        logits[:, where] = self._penalised(
            logits[:, where],
            sent(repeated[:, at >= 0], logits.device),
            sent(counts[:, at >= 0], logits.device),
        )

    def _place(self, token: int) -> int:
        place = self._places.setdefault(token, len(self._places))
        if place == len(self._counts):
            self._counts.append(0)
        return place

    def _penalised(self, logits: Tensor, repeated: Tensor, counts: Tensor) -> Tensor:
        params = self._params
        if (penalty := params.repetition_penalty) != 1:
            divided = torch.where(logits > 0, logits / penalty, logits * penalty)
            logits = torch.where(repeated, divided, logits)
        return logits - params.frequency_penalty * counts - params.presence_penalty * (counts > 0)


def rules_of(
    params: SamplingParams, prompt: Sequence[int], ends: Collection[int]
) -> tuple[Rule, ...]:
    """A request's rules in the order in which they apply, which is vLLM's; most have none.

    ends: tokens that end it.
    """
    rules: list[Rule] = []
    if params.logit_bias:
        rules.append(Bias(params.logit_bias))
    if params.min_new_tokens and ends:
        rules.append(LeastLength(ends, len(prompt) + params.min_new_tokens))
    if params.repetition_penalty != 1 or params.frequency_penalty or params.presence_penalty:
        rules.append(Penalties(params, prompt))
    return tuple(rules)


def under_rules(
    logits: Tensor, columns: Columns, nodes: Sequence[tuple[Request, Sequence[int]]]
) -> Tensor:
    """Logits [n, width] of nodes of requests' trees as their rules want them.

    nodes: of each request, in the order of the rows. Where nobody has rules that is `logits`
    itself, otherwise a copy in float32.
    """
    if not any(request.rules for request, _ in nodes):
        return logits
    changed = logits.to(torch.float32, copy=True)
    parts = changed.split([len(wanted) for _, wanted in nodes])
    for rows, (request, wanted) in zip(parts, nodes, strict=True):
        if request.rules:
            tree = request.tree
            paths = [tree.tokens(tree.path(node)) for node in wanted]
        for rule in request.rules:
            rule.apply_(rows, columns, request.committed, paths)
    return changed
