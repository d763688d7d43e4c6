"""Random arguments of verify_tree: trees whose walks really walk."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from hypothesis import strategies as st
from torch import Tensor

from specbranch import ops
from tests.ops.cases import (
    DTYPES,
    SamplingCase,
    generators,
    int32,
    random_logits,
    random_sampling_params,
)
from tests.ops.layouts import HEAD_LAYOUTS, MATRIX_LAYOUTS


@dataclass
class TreeCase:
    """Arguments of verify_tree, in its order."""

    candidates: Tensor
    parents: Tensor
    n_nodes: Tensor
    n_rows: Tensor
    target_logits: Tensor
    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    seed: Tensor
    position: Tensor
    draft_probs: Tensor | None = None
    draw: Tensor | None = None

    def arguments(self) -> tuple[Tensor | None, ...]:
        return tuple(getattr(self, f.name) for f in fields(self))

    def gumbel(self) -> TreeCase:
        return replace(self, draft_probs=None, draw=None)

    def request(self, b: int) -> TreeCase:
        return TreeCase(*(t if t is None else t[b : b + 1] for t in self.arguments()))

    def row(self, b: int, node: int, depth: int) -> SamplingCase:
        """The arguments with which `sample` gives the token of one node."""
        return SamplingCase(
            logits=self.target_logits[b, node][None],
            temperature=self.temperature[b][None],
            top_k=self.top_k[b][None],
            top_p=self.top_p[b][None],
            min_p=self.min_p[b][None],
            seed=self.seed[b][None],
            position=self.position[b][None] + depth,
        )


def grow_tree(
    n_nodes: int, n_rows: int, drafts: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """candidates, parents [n_nodes]: parents are submitted, siblings carry distinct tokens.

    Among a node's children there are about as many from its draft law (drafts [rows, V]) as others.
    """
    rows, vocab = drafts.shape
    candidates, parents = torch.zeros(2, n_nodes, dtype=torch.int32)
    parents[0] = -1
    free = {}
    for node in range(n_nodes):
        if node > 0:
            options = [p for p in range(min(node, n_rows)) if free[p]]
            parent = options[int(torch.randint(0, len(options), (), generator=generator))]
            parents[node], candidates[node] = parent, free[parent].pop()
        if node < rows:
            luck = torch.rand(vocab, generator=generator)
            free[node] = torch.where(drafts[node] > 0, luck, luck / 2).argsort().tolist()
    return candidates, parents


def random_draws(
    candidates: Tensor, parents: Tensor, drafts: Tensor, generator: torch.Generator
) -> Tensor:
    """draw [n_nodes]: of each node's children that may have been drawn, a few are numbered.

    A token with a chance below 1e-4 counts as never drawn: what follows from such a draw is decided
    by probabilities that float32 does not resolve.
    """
    draw = torch.zeros(len(parents), dtype=torch.uint8)
    for parent in set(parents[1:].tolist()):
        children = (parents == parent).nonzero().flatten()
        children = children[drafts[parent, candidates[children].long()] > 1e-4]
        children = children[torch.randperm(len(children), generator=generator)]
        drawn = children[: int(torch.randint(0, len(children) + 1, (), generator=generator))]
        draw[drawn] = torch.arange(1, len(drawn) + 1, dtype=torch.uint8)
    return draw


@st.composite
def tree_cases(draw: st.DrawFn, vocabs: tuple[int, ...] = (2, 3, 5, 9, 200)) -> TreeCase:
    generator = draw(generators())
    vocab = draw(st.sampled_from(vocabs))
    size = draw(st.integers(1, 24))
    rows = draw(st.integers(1, size))
    requests = draw(st.lists(st.integers(0, size), min_size=1, max_size=4))
    B = len(requests)
    # Beyond n_nodes and n_rows nothing may be read.
    candidates, parents = torch.full((2, B, size), 2**31 - 1, dtype=torch.int32)
    draws = torch.full((B, size), 255, dtype=torch.uint8)
    n_rows = torch.zeros(B, dtype=torch.int32)
    logits = random_logits((B, rows, vocab), generator)
    drafts = ops.sampling_probs(
        (logits + torch.randn(logits.shape, generator=generator)).flatten(0, 1),
        torch.ones(B * rows),
        int32([min(4, vocab)] * (B * rows)),
        torch.ones(B * rows),
        torch.zeros(B * rows),
    ).reshape(logits.shape)
    for b, nodes in enumerate(requests):
        if nodes > 0:
            n_rows[b] = torch.randint(1, min(nodes, rows) + 1, (), generator=generator)
            nodes = min(nodes, int(n_rows[b]) * vocab + 1)
            tokens, tree = grow_tree(nodes, int(n_rows[b]), drafts[b], generator)
            candidates[b, :nodes], parents[b, :nodes] = tokens, tree
            draws[b, :nodes] = random_draws(tokens, tree, drafts[b], generator)
            requests[b] = nodes
        logits[b, n_rows[b] :] = math.nan
        drafts[b, n_rows[b] :] = math.nan
    layout = draw(st.sampled_from(MATRIX_LAYOUTS))
    return TreeCase(
        candidates=layout(candidates),
        parents=layout(parents),
        n_nodes=int32(requests),
        n_rows=n_rows,
        target_logits=draw(st.sampled_from(HEAD_LAYOUTS[:1] + HEAD_LAYOUTS[2:]))(
            logits.to(draw(st.sampled_from(DTYPES)))
        ),
        **random_sampling_params(B, vocab, generator),
        draft_probs=layout(drafts),
        draw=layout(draws),
    )


def greedy_tree(**changes) -> TreeCase:
    r"""Root 0 with children 1 (token 5) and 2 (token 6); 3 (token 7) below 1; 0, 1 and 2 have rows.

    Greedy: the root says 5, node 1 says 7, node 2 says 0.
    """
    logits = torch.zeros(1, 3, 8)
    logits[0, 0, 5] = logits[0, 1, 7] = logits[0, 2, 0] = 1
    case = TreeCase(
        candidates=int32([[3, 5, 6, 7]]),
        parents=int32([[-1, 0, 0, 1]]),
        n_nodes=int32([4]),
        n_rows=int32([3]),
        target_logits=logits,
        temperature=torch.zeros(1),
        top_k=int32([0]),
        top_p=torch.ones(1),
        min_p=torch.zeros(1),
        seed=torch.zeros(1, dtype=torch.int64),
        position=int32([10]),
    )
    return TreeCase(**{**vars(case), **changes})


def two_failures_along_a_path() -> TreeCase:
    """The root's first child fails and its second passes, whose own first child fails."""
    vocab = 8
    logits = torch.full((1, 3, vocab), -math.inf)
    for row, token in enumerate((2, 0, 3)):
        logits[0, row, token] = 0.0
    draft = torch.zeros(1, 3, vocab)
    draft[0, 0, 1:3] = 0.5
    draft[0, 1, 0] = draft[0, 2, 1] = 1.0
    return greedy_tree(
        candidates=int32([[0, 1, 2, 1]]),
        parents=int32([[-1, 0, 0, 2]]),
        n_nodes=int32([4]),
        n_rows=int32([3]),
        target_logits=logits,
        temperature=torch.ones(1),
        draft_probs=draft,
        draw=torch.tensor([[0, 1, 2, 1]], dtype=torch.uint8),
    )
