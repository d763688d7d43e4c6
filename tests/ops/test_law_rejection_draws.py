"""The law of the rejection coupling, by 10^5 runs of the ops with their own noise.

The children come from `draft_topk(coupling="rejection")`, the walk from `verify_tree`; the text is
completed to two tokens by `sample`, as the next round would do. The same check must reject what is
known to be wrong.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from specbranch import ops, reference
from specbranch.reference.noise import Stream
from tests.ops.cases import int32
from tests.ops.statistics import assert_law, assert_not_law

RUNS = 100_000
VOCAB = 4
POSITION = torch.full((RUNS,), 11, dtype=torch.int32)
SEEDS = torch.arange(RUNS) * 7919 + 13


@dataclass
class Filters:
    """Sampling parameters that all rows share."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def rows(self, n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return (
            torch.full((n,), self.temperature),
            torch.full((n,), self.top_k, dtype=torch.int32),
            torch.full((n,), self.top_p),
            torch.full((n,), self.min_p),
        )


@dataclass
class Models:
    """Target and draft logits [1 + V, V]: row 0 at the root, row 1 + x after token x."""

    target: Tensor
    draft: Tensor
    filters: Filters

    def q(self) -> Tensor:
        return ops.sampling_probs(self.draft, *self.filters.rows(1 + VOCAB))

    def law_of_two(self) -> Tensor:
        """P(first) P(second | first), [V * V]."""
        p = reference.sampling_probs(self.target, *self.filters.rows(1 + VOCAB))
        return (p[0, :, None] * p[1:]).flatten()


def example(filters: Filters) -> Models:
    p, q = torch.tensor([0.5, 0.3, 0.15, 0.05]), torch.tensor([0.1, 0.2, 0.3, 0.4])
    return Models(
        target=torch.stack([p, *(p.roll(x) for x in range(VOCAB))]).log(),
        draft=torch.stack([q, *(q.roll(2 * x + 1) for x in range(VOCAB))]).log(),
        filters=filters,
    )


def corner(p: list[float], q: list[float]) -> Models:
    laws = torch.tensor([p, q])[:, None].expand(2, 1 + VOCAB, VOCAB)
    return Models(*laws.log(), Filters())


PLAIN = example(Filters())


@functools.cache
def fresh_seeds(draft_row: int) -> Tensor:
    return torch.tensor([ops.mix(seed, draft_row) for seed in SEEDS.tolist()])


def draw_children(models: Models, row: Tensor, k: int, draft_row: int) -> Tensor:
    """Draws [RUNS, k] after the tokens of `row` [RUNS], with noise fresh for every draft row."""
    logits, filters = models.draft[row], models.filters.rows(RUNS)
    noise = fresh_seeds(draft_row), POSITION
    return ops.draft_topk(logits, k, *filters, *noise, "rejection")[0]


def undrawn(drawn: Tensor) -> Tensor:
    """The lowest token that is not among the draws [RUNS, k]: a guess that depends on them."""
    taken = torch.zeros(RUNS, VOCAB, dtype=torch.bool).scatter_(1, drawn.long(), True)
    return (~taken).int().argmax(1, keepdim=True).int()


@dataclass
class Trees:
    """One tree a run. Nodes: the root, its children, a child below each of the first `chains`.

    The root and its children are submitted; every fourth run, the root alone.
    """

    models: Models
    children: Tensor  # [RUNS, C] tokens
    orders: Tensor  # [RUNS, C] their draws
    chains: int = 0
    n_nodes: Tensor | None = None

    def texts(self) -> Tensor:
        """The first two tokens of every run as first * V + second, [RUNS]."""
        width = self.children.shape[1]
        rows = torch.cat(
            [torch.zeros(RUNS, 1, dtype=torch.int64), 1 + self.children.clamp(min=0)], 1
        )
        below = [
            draw_children(self.models, rows[:, node], 1, node) for node in range(1, 1 + self.chains)
        ]
        candidates = torch.cat([torch.zeros(RUNS, 1).int(), self.children, *below], 1)
        size = candidates.shape[1]
        parents = int32([-1] + [0] * width + list(range(1, 1 + self.chains))).expand(RUNS, size)
        orders = torch.cat([torch.zeros(RUNS, 1), self.orders, torch.ones(RUNS, self.chains)], 1)
        n_nodes = int32([size]).repeat(RUNS) if self.n_nodes is None else self.n_nodes
        n_rows = torch.where(torch.arange(RUNS) % 4 == 0, 1, n_nodes.clamp(max=1 + width))
        submitted = rows[torch.arange(1 + width) < n_rows[:, None]]
        path, path_len, next_token, winner, status = ops.verify_tree(
            candidates,
            parents,
            n_nodes,
            torch.cat([int32([0]), n_rows.cumsum(0, dtype=torch.int32)]),
            self.models.target[submitted],
            *self.models.filters.rows(RUNS),
            SEEDS,
            POSITION,
            self.models.q()[submitted],
            orders.to(torch.uint8),
        )
        assert (status == 0).all()
        assert (winner[(path_len == 1) & (n_rows > 1)] == -1).all()
        accepted = candidates.gather(1, path[:, 1:2].clamp(min=0).long()).flatten()
        first = torch.where(path_len == 1, next_token, accepted).long()
        resumed = ops.sample(
            self.models.target[1 + first], *self.models.filters.rows(RUNS), SEEDS, POSITION + 1
        )
        return first * VOCAB + torch.where(path_len == 1, resumed, next_token)


def drawn_trees(models: Models, k: int, chains: int = 0) -> Trees:
    root = torch.zeros(RUNS, dtype=torch.int64)
    children = draw_children(models, root, k, 0)
    return Trees(models, children, torch.arange(1, k + 1).expand(RUNS, k), chains)


def with_matched_guess(trees: Trees) -> Trees:
    return replace(
        trees,
        children=torch.cat([trees.children, undrawn(trees.children)], 1),
        orders=torch.cat([trees.orders, torch.zeros(RUNS, 1)], 1),
    )


ALL_FILTERS = {
    "none": Filters(),
    "cold, top_k": Filters(temperature=0.7, top_k=3),
    "top_p": Filters(top_p=0.75),
    "hot, min_p": Filters(temperature=1.5, min_p=0.2),
}


@pytest.mark.parametrize("filters", ALL_FILTERS)
@pytest.mark.parametrize(("k", "chains"), [(1, 0), (1, 1), (2, 0), (2, 2), (3, 1), (3, 3)])
@pytest.mark.parametrize("matched", [False, True])
def test_the_text_has_the_targets_law(filters, k, chains, matched):
    models = example(ALL_FILTERS[filters])
    trees = drawn_trees(models, k, chains)
    if matched:
        trees = with_matched_guess(trees)
    assert_law(trees.texts(), models.law_of_two())


CORNERS = {
    "zeros in the target": ([0.6, 0, 0.4, 0], [0.1, 0.5, 0.1, 0.3]),
    "zeros in the draft": ([0.1, 0.5, 0.1, 0.3], [0.6, 0, 0.4, 0]),
    "disjoint": ([0.5, 0.5, 0, 0], [0, 0, 0.3, 0.7]),
    "equal": ([0.4, 0.3, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1]),
    "one-hot target": ([0, 1, 0, 0], [0.25, 0.25, 0.25, 0.25]),
    "one-hot draft": ([0.25, 0.25, 0.25, 0.25], [0, 1, 0, 0]),
}


@pytest.mark.parametrize("name", CORNERS)
@pytest.mark.parametrize("k", [1, 2, 4])
def test_corners_have_the_targets_law(name, k):
    models = corner(*CORNERS[name])
    trees = drawn_trees(models, k)
    trees.n_nodes = 1 + (trees.children >= 0).sum(1).int()  # padding is no child
    assert (trees.n_nodes == 1 + min(k, int((models.q()[0] > 0).sum()))).all()
    assert_law(trees.texts(), models.law_of_two())


# The check bites. Each of these gives the op what a wrong engine would give it.
def deterministic_siblings() -> Trees:
    """The draft's most probable tokens, tested as if they had been drawn."""
    trees = drawn_trees(PLAIN, 2)
    best = PLAIN.draft[0].topk(2).indices.int()
    return replace(trees, children=best.expand(RUNS, 2).contiguous())


def siblings_in_the_order_of_q() -> Trees:
    trees = drawn_trees(PLAIN, 2)
    ranks = PLAIN.q()[0][trees.children.long()].argsort(1, descending=True).argsort(1)
    return replace(trees, orders=1 + ranks)


def improbable_draws_dropped() -> Trees:
    trees = drawn_trees(PLAIN, 1)
    kept = PLAIN.q()[0][trees.children[:, 0].long()] >= 0.25
    return replace(trees, n_nodes=1 + kept.int())


def draws_with_the_noise_of_their_test() -> Trees:
    """The draft's Gumbel noise is made of the words that decide the acceptance."""
    trees = drawn_trees(PLAIN, 1)
    words = reference.philox(SEEDS.numpy(), POSITION.numpy(), 0, Stream.ACCEPT, 0)
    u = (torch.from_numpy(np.stack(words, 1).astype(np.float64)) + 0.5) / 2**32
    noise = -(-(-u).log1p()).log()
    return replace(trees, children=(PLAIN.draft[0] + noise).argmax(1, keepdim=True).int())


def a_draft_law_that_is_not_the_draws() -> Trees:
    """Draws at another temperature than the law of their test."""
    warm = replace(PLAIN, filters=Filters(temperature=1.5))
    return replace(drawn_trees(warm, 1), models=PLAIN)


@pytest.mark.parametrize(
    "wrong",
    [
        deterministic_siblings,
        siblings_in_the_order_of_q,
        improbable_draws_dropped,
        draws_with_the_noise_of_their_test,
        a_draft_law_that_is_not_the_draws,
    ],
)
def test_wrong_use_does_not_have_the_targets_law(wrong):
    assert_not_law(wrong().texts(), PLAIN.law_of_two())
