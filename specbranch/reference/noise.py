"""Counter-based noise: a function of (seed, position, token, stream) and of nothing else."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Words = npt.NDArray[np.uint64]

_LOW_32 = np.uint64(0xFFFFFFFF)
_SHIFT_32 = np.uint64(32)


class Stream(IntEnum):
    """Uses of noise that must be independent of each other draw from different streams."""

    GUMBEL = 0
    ACCEPT = 1
    RESIDUAL = 2
    MIX = 3


def philox(
    seed: npt.ArrayLike, c0: npt.ArrayLike, c1: npt.ArrayLike, c2: npt.ArrayLike, c3: npt.ArrayLike
) -> tuple[Words, Words, Words, Words]:
    """Philox4x32-10 (Salmon et al., SC 2011): the four 32-bit words of each counter, as uint64.

    The key is `seed` as (low word, high word); key and counter are broadcast together.
    """
    key, x0, x1, x2, x3 = np.broadcast_arrays(
        *(np.asarray(x).astype(np.uint64) for x in (seed, c0, c1, c2, c3))
    )
    k0, k1 = key & _LOW_32, key >> _SHIFT_32
    for _ in range(10):
        product0, product1 = x0 * np.uint64(0xD2511F53), x2 * np.uint64(0xCD9E8D57)
        x0, x1, x2, x3 = (
            (product1 >> _SHIFT_32) ^ x1 ^ k0,
            product1 & _LOW_32,
            (product0 >> _SHIFT_32) ^ x3 ^ k1,
            product0 & _LOW_32,
        )
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & _LOW_32, (k1 + np.uint64(0xBB67AE85)) & _LOW_32
    return x0, x1, x2, x3


def token_words(seed: int, position: int, tokens: npt.ArrayLike, stream: Stream) -> Words:
    """A word for each token: word (token mod 4) of counter (position, token / 4, stream, 0)."""
    token = np.asarray(tokens, np.int64)
    words: Words = np.choose(token % 4, philox(seed, position, token // 4, stream, 0))
    return words


def gumbel_noise(seed: int, position: int, tokens: Tensor, stream: Stream) -> Tensor:
    """Standard Gumbel noise of each token, float64: argmax(log p + noise) is a draw from p."""
    u = (token_words(seed, position, tokens.numpy(), stream).astype(np.float64) + 0.5) / 2**32
    return torch.from_numpy(-np.log(-np.log1p(-u)))


def accept_uniform(seed: int, position: int, token: int) -> float:
    """The uniform in [0, 1) that tests a sampled child: 24 bits of its token's word."""
    (word,) = token_words(seed, position, [token], Stream.ACCEPT)
    return (int(word) >> 8) / 2**24


def mix(seed: int, n: int) -> int:
    """The n-th seed derived from `seed`, as int64: fresh noise for a request's n-th draft row."""
    low, high, _, _ = philox(seed, n, 0, Stream.MIX, 0)
    return int.from_bytes((int(low) | int(high) << 32).to_bytes(8, "little"), "little", signed=True)
