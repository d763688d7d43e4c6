"""Where float32 and float64 may disagree: how close a row's decisions are to a tie.

An op and the reference may pick different tokens only where the scores that decide are equal up to
rounding. These helpers measure the margin, so that a test can demand it instead of looking away.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from specbranch.reference.noise import Stream, gumbel_noise
from specbranch.reference.sampling import RowParams, log_law

FILTER_TOLERANCE = 2e-5
"""Relative to the mass: what float32 may do to a cumulative probability or to p / max p."""


def filter_margin(logits: Tensor, params: RowParams) -> float:
    """How far a row's filters are from keeping one token more or less, in probability."""
    temperature, top_k, top_p, min_p = params
    if temperature == 0:
        return math.inf
    p = (logits.double() / temperature).softmax(-1).sort(descending=True).values
    margins = [math.inf]
    if min_p > 0:
        margins += ((p / (min_p * p[0]) - 1).abs()).tolist()
    if top_p < 1:
        rest = p[: top_k or None] / p[: top_k or None].sum()
        margins += ((rest.cumsum(-1) - rest)[1:] - top_p).abs().tolist()
    # Ties within the ranked logits are no tie of the filter: equal logits go by id, exactly.
    return min(margins)


def is_clear_cut(logits: Tensor, params: RowParams) -> bool:
    return filter_margin(logits, params) > FILTER_TOLERANCE


def score_tolerance(logits: Tensor, params: RowParams) -> float:
    """What float32 may do to logits / T + G."""
    finite = logits[logits.isfinite()].double().abs().max()
    return 1e-6 * (25 + float(finite) / (params.temperature or 1.0))


def scores(logits: Tensor, params: RowParams, seed: int, position: int) -> Tensor:
    """log p + G of each token, float64 [V]; the token of `sample` is the argmax."""
    law = log_law(logits, params)
    if params.temperature == 0:
        return law
    return law + gumbel_noise(seed, position, torch.arange(len(logits)), Stream.GUMBEL)
