"""From logits to laws, tokens and guesses. One function makes the law of target and draft alike."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from specbranch.reference.noise import Stream, gumbel_noise

SOFT_FILTER_PENALTY = 2.0
"""What a token outside the draft's own filter loses in z under the gumbel coupling."""


class RowParams(NamedTuple):
    """Sampling parameters of one row: top_k 0, top_p 1 and min_p 0 are off."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float


def rows_of(*params: Tensor) -> Iterator[RowParams]:
    """RowParams of each row from temperature, top_k, top_p, min_p, each [R]."""
    for values in zip(*(p.tolist() for p in params), strict=True):
        yield RowParams(*values)


def with_allowed(logits: Tensor, allowed: Tensor | None) -> Tensor:
    """Logits [R, V] with -inf where a token's bit is 0: token % 32 of word token / 32 of allowed
    int32 [R, ceil(V / 32)], if there is any."""
    if allowed is None:
        return logits
    tokens = torch.arange(logits.shape[1])
    bits = allowed[:, tokens // 32] >> (tokens % 32) & 1
    return logits.masked_fill(bits == 0, -math.inf)


def has_law(logits: Tensor) -> bool:
    """Whether a row [V] has a law: no NaN, and a finite maximum."""
    return math.isfinite(logits.max())  # max propagates NaN


def allowed_tokens(logits: Tensor, params: RowParams) -> Tensor:
    """The tokens of a row [V] that pass the filters, bool [V]; ties go to the lowest id."""
    temperature, top_k, top_p, min_p = params
    ranked, order = logits.double().sort(descending=True, stable=True)
    kept = torch.ones(len(logits), dtype=torch.bool)
    if temperature == 0:
        kept[1:] = False
    else:
        p = (ranked / temperature).softmax(-1)
        if top_k > 0:
            kept[top_k:] = False
        if top_p < 1:
            rest = p * kept / (p * kept).sum()
            kept &= rest.cumsum(-1) - rest < top_p  # the token that crosses top_p is kept
        if min_p > 0:
            kept &= p >= min_p * p[0]
    allowed = torch.zeros_like(kept)
    allowed[order] = kept
    return allowed


def log_law(logits: Tensor, params: RowParams) -> Tensor:
    """Log of a row's law after temperature and filters, float64 [V], -inf outside the filters."""
    scaled = logits.double() / (params.temperature or 1.0)
    return scaled.masked_fill(~allowed_tokens(logits, params), -math.inf).log_softmax(-1)


def draw_token(law: Tensor, seed: int, position: int, stream: Stream) -> int:
    """An exact draw from a law given by its logarithm [V], by the Gumbel-max trick."""
    return int((law + gumbel_noise(seed, position, torch.arange(len(law)), stream)).argmax())


def sampling_probs(
    logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor
) -> Tensor:
    """The law of each row: temperature, top_k, top_p on the renormalised rest, min_p, in turn.

    logits [R, V], temperature, top_k, top_p, min_p [R] -> probs [R, V].
    Temperature 0 is a one-hot argmax. A row without a law (NaN, no finite maximum) is all NaN.
    """
    probs = torch.full(logits.shape, math.nan, dtype=torch.float64)
    for r, params in enumerate(rows_of(temperature, top_k, top_p, min_p)):
        if has_law(logits[r]):
            probs[r] = log_law(logits[r], params).exp()
    return probs


def sample(
    logits: Tensor,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    min_p: Tensor,
    seed: Tensor,
    position: Tensor,
    allowed: Tensor | None = None,
) -> Tensor:
    """The token of each row: argmax over kept x of logits(x) / T + G(seed, position, x).

    An exact draw from `sampling_probs`, and a function of logits, seed and position alone.
    logits [R, V], allowed [R, ceil(V / 32)] (see `with_allowed`), all others [R] -> ids [R]; -1 for
    a row without a law.
    """
    logits = with_allowed(logits, allowed)
    ids = torch.full((logits.shape[0],), -1, dtype=torch.int32)
    for r, params in enumerate(rows_of(temperature, top_k, top_p, min_p)):
        if has_law(logits[r]):
            law = log_law(logits[r], params)  # at temperature 0 one token is left: noise is idle
            ids[r] = draw_token(law, int(seed[r]), int(position[r]), Stream.GUMBEL)
    return ids


def draft_topk(
    logits: Tensor,
    k: int,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    min_p: Tensor,
    seed: Tensor,
    position: Tensor,
    coupling: str,
    token_ids: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The draft's k guesses at the token that the target will choose.

    logits [R, V], temperature, top_k, top_p, min_p, seed, position [R], token_ids [V]: the target's
    id of each draft column, for a draft with a smaller head
    -> ids [R, k] target ids, best first, -1 where fewer have mass; estimates [R, k], 0 there;
    max_prob [R], entropy [R] (nats), both of softmax(logits / (T or 1)).

    "gumbel" (Daliri et al. 2024): the k best of z = logits / T + G, with the noise that the target
    will meet; z loses 2 outside the draft's own filter. Estimates are softmax(z).
    "rejection": k draws without replacement from the draft's filtered law q, as the k best of
    log q + G, in the order of the draws. Estimates are their q.
    Temperature 0: the k best logits, with estimates softmax(logits), under either.
    A row without a law has ids -1, estimates 0, max_prob and entropy NaN.
    """
    R, V = logits.shape
    tokens = torch.arange(V) if token_ids is None else token_ids
    ids = torch.full((R, k), -1, dtype=torch.int32)
    estimates = torch.zeros(R, k, dtype=torch.float64)
    max_prob, entropy = torch.full((2, R), math.nan, dtype=torch.float64)
    for r, params in enumerate(rows_of(temperature, top_k, top_p, min_p)):
        if not has_law(logits[r]):
            continue
        scaled = logits[r].double() / (params.temperature or 1.0)
        p = scaled.softmax(-1)
        max_prob[r], entropy[r] = p.max(), torch.special.entr(p).sum()
        noise = gumbel_noise(int(seed[r]), int(position[r]), tokens, Stream.GUMBEL)
        if params.temperature == 0:
            z, estimate = scaled, p
        elif coupling == "gumbel":
            z = scaled + noise - SOFT_FILTER_PENALTY * ~allowed_tokens(logits[r], params)
            estimate = z.softmax(-1)
        else:
            law = log_law(logits[r], params)
            z, estimate = law + noise, law.exp()
        best = z.sort(descending=True, stable=True).indices[:k]
        best = best[z[best] > -math.inf]
        ids[r, : len(best)] = tokens[best].to(torch.int32)
        estimates[r, : len(best)] = estimate[best]
    return ids, estimates, max_prob, entropy
