"""How likely the target found what was committed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from specbranch.models.transfers import sent


class TokenLogprobs(NamedTuple):
    """Natural logarithms of chances at one place of the output."""

    token_id: int
    logprob: float  # of the token that was committed
    top: dict[int, float]  # of the likeliest tokens, the likeliest first


def token_logprobs(logits: Tensor, tokens: Sequence[int], most: int) -> list[TokenLogprobs]:
    """What logits [n, V] say of the tokens [n] that came there, with the `most` likeliest each."""
    chances = logits.float().log_softmax(-1)
    own = chances.gather(1, sent(tokens, logits.device)[:, None])[:, 0].tolist()
    best = chances.topk(min(most, chances.shape[1]))
    tops = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [
        TokenLogprobs(token, logprob, dict(zip(*top, strict=True)))
        for token, logprob, top in zip(tokens, own, tops, strict=True)
    ]
