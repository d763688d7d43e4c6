"""The law of `sample`: 10^5 draws over positions and over seeds, and independence of its noise."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from specbranch import ops, reference
from specbranch.reference.noise import Stream, token_words
from tests.ops.cases import int32
from tests.ops.statistics import assert_independent, assert_law, repeated

DRAWS = 100_000
SMALL = [0.0, 1.0, -1.0, 2.0, 0.5, -3.0, 1.5, 0.0]
MEDIUM = torch.randn(500, generator=torch.Generator().manual_seed(0)).mul(2).tolist()
LARGE = torch.randn(4096, generator=torch.Generator().manual_seed(1)).mul(2).tolist()
WHOLE = torch.randn(49152, generator=torch.Generator().manual_seed(2)).mul(2).tolist()

FILTERS = {
    "none": {},
    "hot": {"temperature": 2.5},
    "cold": {"temperature": 0.4},
    "top_k": {"top_k": 5},
    "top_p": {"top_p": 0.8},
    "min_p": {"min_p": 0.1},
    "all": {"temperature": 0.7, "top_k": 40, "top_p": 0.9, "min_p": 0.02},
}


def filter_arguments(rows, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0):
    return (
        torch.full((rows,), temperature),
        torch.full((rows,), top_k, dtype=torch.int32),
        torch.full((rows,), top_p),
        torch.full((rows,), min_p),
    )


def draw(logits: list[float], seed: torch.Tensor, position: torch.Tensor, **filters):
    rows = len(seed)
    arguments = filter_arguments(rows, **filters)
    return ops.sample(repeated(logits, rows), *arguments, seed, position)


def law(logits: list[float], **filters) -> torch.Tensor:
    return reference.sampling_probs(torch.tensor([logits]), *filter_arguments(1, **filters))[0]


def counters(over: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(seed, position) of all draws: one varies, the other is fixed."""
    n, steps = DRAWS, torch.arange(DRAWS)
    if over == "positions":
        return torch.full((n,), 2024), steps.int()
    if over == "seeds":
        return steps, torch.full((n,), 17, dtype=torch.int32)
    return steps << 32, torch.full((n,), 17, dtype=torch.int32)


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("over", ["positions", "seeds", "high words of seeds"])
@pytest.mark.parametrize("logits", [SMALL, MEDIUM], ids=["V=8", "V=500"])
def test_law(logits, over, filters):
    tokens = draw(logits, *counters(over), **FILTERS[filters])
    assert_law(tokens, law(logits, **FILTERS[filters]))


@pytest.mark.parametrize("filters", ["none", "all"])
@pytest.mark.parametrize("over", ["positions", "seeds"])
def test_law_of_a_large_vocabulary(over, filters):
    tokens = draw(LARGE, *counters(over), **FILTERS[filters])
    assert_law(tokens, law(LARGE, **FILTERS[filters]))


@pytest.mark.parametrize("filters", ["none", "all"])
def test_law_of_a_models_vocabulary(filters):
    tokens = draw(WHOLE, *counters("positions"), **FILTERS[filters])
    assert_law(tokens, law(WHOLE, **FILTERS[filters]))


def test_law_of_every_column_of_a_uniform_row():
    """No token is favoured by its place in a counter's four words or in a vector's lanes."""
    vocab = 67
    tokens = draw([0.0] * vocab, *counters("positions"))
    assert_law(tokens, torch.full((vocab,), 1 / vocab))


# Independence: the same row at related counters.
ROW = [0.3, 0.0, -0.4, 0.6, 0.1]


@functools.cache
def tokens_at(shift: int, seed: int) -> torch.Tensor:
    positions = torch.arange(DRAWS, dtype=torch.int32) + shift
    return draw(ROW, torch.full((DRAWS,), seed), positions)


@pytest.mark.parametrize("lag", [1, 2, 4, 64])
def test_positions_are_independent(lag):
    assert_independent(tokens_at(0, 5), tokens_at(lag, 5))


@pytest.mark.parametrize("other", [6, 5 + 2**32, -5, 2**63 - 6])
def test_seeds_are_independent(other):
    assert_independent(tokens_at(0, 5), tokens_at(0, other))


def test_mixed_seeds_are_independent_of_their_parent_and_each_other():
    mixed = [reference.mix(5, n) for n in range(3)]
    assert_independent(tokens_at(0, 5), tokens_at(0, mixed[0]))
    assert_independent(tokens_at(0, mixed[0]), tokens_at(0, mixed[1]))
    assert_independent(tokens_at(0, mixed[1]), tokens_at(0, mixed[2]))


def lone_roots(draft_probs: torch.Tensor | None, **tree) -> tuple[torch.Tensor, ...]:
    """verify_tree on roots with the row ROW at the counters of tokens_at(0, 5)."""
    B = DRAWS
    candidates = tree.get("candidates", torch.zeros(1, dtype=torch.int32)).expand(B, -1)
    parents = tree.get("parents", int32([-1])).expand(B, -1)
    size = candidates.shape[1]
    return ops.verify_tree(
        candidates,
        parents,
        int32([size]).expand(B).contiguous(),
        torch.arange(B + 1, dtype=torch.int32),
        torch.tensor(ROW).expand(B, -1),
        *filter_arguments(B),
        torch.full((B,), 5),
        torch.arange(B, dtype=torch.int32),
        None if draft_probs is None else draft_probs.expand(B, -1),
        None if draft_probs is None else tree["draw"].expand(B, -1),
    )


def test_the_residual_stream_is_independent_of_the_gumbel_stream():
    uniform = torch.full((len(ROW),), 0.2)
    no_draws = torch.zeros(1, dtype=torch.uint8)
    residual = lone_roots(uniform, draw=no_draws)[2]
    assert torch.equal(lone_roots(None)[2], tokens_at(0, 5))
    assert_law(residual, law(ROW))
    assert_independent(residual, tokens_at(0, 5))


def test_the_accept_stream_is_independent_of_the_others():
    """One drawn child, accepted in about half of the cases."""
    q = torch.tensor([0.45, 0.15, 0.15, 0.1, 0.15])
    results = lone_roots(
        q,
        candidates=int32([0, 0]),
        parents=int32([-1, 0]),
        draw=torch.tensor([0, 1], dtype=torch.uint8),
    )
    accepted = (results[3] == 1).int()  # the winner is the child
    chance = float(torch.tensor(ROW).softmax(-1)[0] / q[0])
    assert_law(accepted, torch.tensor([1 - chance, chance]))
    assert_independent(accepted, tokens_at(0, 5))
    no_draws = torch.zeros(1, dtype=torch.uint8)
    assert_independent(accepted, lone_roots(q, draw=no_draws)[2])


@pytest.mark.parametrize("a", list(Stream))
@pytest.mark.parametrize("b", list(Stream))
def test_words_of_different_streams_are_independent(a, b):
    """And of neighbouring tokens within a stream: top bits of 10^5 words, in 16 x 16 cells."""
    tokens = np.arange(DRAWS)
    left = token_words(7, 3, tokens, a) >> np.uint64(28)
    right = token_words(7, 3, tokens + (1 if a == b else 0), b) >> np.uint64(28)
    left, right = (torch.from_numpy(w.astype(np.int64)) for w in (left, right))
    assert_law(left, torch.full((16,), 1 / 16))
    assert_independent(left, right)
