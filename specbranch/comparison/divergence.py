"""Where a text parts from plain decoding's, and how near a tie that was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch

from specbranch.loading.pair import ModelPair
from specbranch.models.block import BlockRows
from specbranch.models.runner import ModelRunner
from specbranch.reference.noise import Stream, gumbel_noise
from specbranch.reference.sampling import RowParams, log_law
from specbranch.rules import Columns, rules_of
from specbranch.sampling import SamplingParams


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where a text first differs from the baseline's.

    position: index among the generated tokens. margin: by how much the baseline's token won there
    (see `ar_margin`), None where that has no meaning.
    """

    position: int
    margin: float | None


class Continuation(Protocol):
    """What is read of a text: a Generation, or what is known of one."""

    @property
    def prompt_token_ids(self) -> list[int]: ...

    @property
    def token_ids(self) -> list[int]: ...


class Text(NamedTuple):
    """A text that is known by its tokens alone; a `Continuation`."""

    prompt_token_ids: list[int]
    token_ids: list[int]


def divergence(
    pair: ModelPair, token_ids: Sequence[int], baseline: Continuation, params: SamplingParams
) -> Divergence | None:
    """None for a text that is the baseline's."""
    position = first_difference(token_ids, baseline.token_ids)
    if position is None:
        return None
    return Divergence(position, ar_margin(pair, baseline, position, params))


def first_difference(tokens: Sequence[int], baseline: Sequence[int]) -> int | None:
    """The first index at which two token lists differ, None if they are equal."""
    if tokens == baseline:
        return None
    pairs = zip(tokens, baseline, strict=False)
    shorter = min(len(tokens), len(baseline))
    return next((i for i, (ours, theirs) in enumerate(pairs) if ours != theirs), shorter)


def ar_margin(
    pair: ModelPair, baseline: Continuation, position: int, params: SamplingParams
) -> float | None:
    """By how much the baseline's token at `position` beat every other.

    The difference of its score and the best other one, where a score is logits / T + Gumbel noise
    over the allowed tokens, or the logit at T = 0, after the request's rules. None after the
    baseline's end, and where no other token was allowed.
    """
    if position >= len(baseline.token_ids):
        return None
    tokens = baseline.prompt_token_ids + baseline.token_ids[:position]
    # One forward is not worth a graph.
    runner = ModelRunner(
        pair.target, max_len=len(tokens), max_nodes=1, prepare=lambda forward, _: forward
    )
    block = runner.open()
    runner.prefill(block, tokens[:-1])
    logits = runner.forward([BlockRows(block, tokens[-1:], [-1], 1)]).cpu().float()
    columns = Columns(logits.shape[1])
    for rule in rules_of(params, baseline.prompt_token_ids, params.ends(pair.eos_token_ids)):
        rule.apply_(logits, columns, tokens, [[]])
    scores = _scores(logits[0].double(), len(tokens), params)
    chosen = baseline.token_ids[position]
    own = float(scores[chosen])
    scores[chosen] = -math.inf
    margin = own - float(scores.max())
    return margin if math.isfinite(margin) else None


def _scores(logits: torch.Tensor, position: int, params: SamplingParams) -> torch.Tensor:
    """What sampling at a position takes the largest of, float64 [V]."""
    if params.temperature == 0:
        return logits
    filters = RowParams(params.temperature, params.top_k, params.top_p, params.min_p)
    noise = gumbel_noise(params.seed, position, torch.arange(len(logits)), Stream.GUMBEL)
    return log_law(logits, filters) + noise
