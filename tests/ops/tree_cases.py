"""Random arguments of verify_tree: trees whose walks really walk."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from itertools import accumulate

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
from tests.ops.layouts import MATRIX_LAYOUTS


@dataclass
class TreeCase:
    """Arguments of verify_tree, in its order."""

    candidates: Tensor
    parents: Tensor
    n_nodes: Tensor
    row_indptr: Tensor
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

    def rows(self, b: int) -> range:
        begin, end = self.row_indptr[b : b + 2].tolist()
        return range(begin, end)

    def walks(self) -> Tensor:
        """bool [B]: not idle."""
        return (self.n_nodes > 0) & (self.row_indptr.diff() > 0)

    def request(self, b: int) -> TreeCase:
        """It alone, without padding rows."""
        rows = slice(self.rows(b).start, self.rows(b).stop)
        alone = TreeCase(*(t if t is None else t[b : b + 1] for t in self.arguments()))
        alone.row_indptr = int32([0, len(self.rows(b))])
        alone.target_logits = self.target_logits[rows]
        if self.draft_probs is not None:
            alone.draft_probs = self.draft_probs[rows]
        return alone

    def without_rows(self) -> TreeCase:
        return replace(
            self,
            row_indptr=torch.zeros_like(self.row_indptr),
            target_logits=self.target_logits[:0],
            draft_probs=None if self.draft_probs is None else self.draft_probs[:0],
        )

    def roots(self) -> TreeCase:
        """The same requests without guesses."""
        walks = self.walks()
        rows = self.row_indptr[:-1][walks].long()
        return replace(
            self,
            n_nodes=self.n_nodes.clamp(max=1),
            row_indptr=torch.cat([int32([0]), walks.cumsum(0, dtype=torch.int32)]),
            target_logits=self.target_logits[rows],
            draft_probs=None if self.draft_probs is None else self.draft_probs[rows],
        )

    def row(self, b: int, node: int, depth: int) -> SamplingCase:
        """The arguments with which `sample` gives the token of one node."""
        return SamplingCase(
            logits=self.target_logits[self.rows(b)[node]][None],
            temperature=self.temperature[b][None],
            top_k=self.top_k[b][None],
            top_p=self.top_p[b][None],
            min_p=self.min_p[b][None],
            seed=self.seed[b][None],
            position=self.position[b][None] + depth,
        )


def grow_tree(n_nodes: int, drafts: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """candidates, parents [n_nodes]: parents are submitted, siblings carry distinct tokens.

    Among a node's children there are about as many from its draft law (drafts [n_rows, V]) as
    others.
    """
    n_rows, vocab = drafts.shape
    candidates, parents = torch.zeros(2, n_nodes, dtype=torch.int32)
    parents[0] = -1
    free = {}
    for node in range(n_nodes):
        if node > 0:
            options = [p for p in range(min(node, n_rows)) if free[p]]
            parent = options[int(torch.randint(0, len(options), (), generator=generator))]
            parents[node], candidates[node] = parent, free[parent].pop()
        if node < n_rows:
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
def request_sizes(draw: st.DrawFn, max_requests: int) -> tuple[list[int], list[int]]:
    """Nodes and rows of each request. Idle ones have no nodes (but may have rows) or no rows."""
    most = draw(st.integers(1, 24))
    nodes = draw(st.lists(st.integers(0, most), min_size=1, max_size=max_requests))
    return nodes, [draw(st.integers(0, n or 1)) for n in nodes]


@st.composite
def tree_cases(
    draw: st.DrawFn, vocabs: tuple[int, ...] = (2, 3, 5, 9, 200), max_requests: int = 4
) -> TreeCase:
    generator = draw(generators())
    vocab = draw(st.sampled_from(vocabs))
    nodes, rows = draw(request_sizes(max_requests))
    ends = list(accumulate(rows, initial=0))
    B, T, N = len(nodes), ends[-1], max(1, *nodes)
    # Beyond a request's nodes, of an idle one and behind the last row nothing may be read.
    candidates, parents = torch.full((2, B, N), 2**31 - 1, dtype=torch.int32)
    draws = torch.full((B, N), 255, dtype=torch.uint8)
    logits = random_logits((T, vocab), generator)
    drafts = draft_laws(logits, generator)
    for b, end in enumerate(ends[1:]):
        own = slice(end - rows[b], end)
        if nodes[b] == 0:
            logits[own] = drafts[own] = math.nan
        elif rows[b] > 0:
            nodes[b] = min(nodes[b], rows[b] * vocab + 1)
            tokens, tree = grow_tree(nodes[b], drafts[own], generator)
            candidates[b, : nodes[b]], parents[b, : nodes[b]] = tokens, tree
            draws[b, : nodes[b]] = random_draws(tokens, tree, drafts[own], generator)
    padding = torch.full((draw(st.integers(0, 3)), vocab), math.nan)
    layout = draw(st.sampled_from(MATRIX_LAYOUTS))
    return TreeCase(
        candidates=layout(candidates),
        parents=layout(parents),
        n_nodes=int32(nodes),
        row_indptr=int32(ends),
        target_logits=draw(st.sampled_from(MATRIX_LAYOUTS))(
            torch.cat([logits, padding]).to(draw(st.sampled_from(DTYPES)))
        ),
        **random_sampling_params(B, vocab, generator),
        draft_probs=layout(torch.cat([drafts, padding])),
        draw=layout(draws),
    )


def draft_laws(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Laws of up to four tokens each that resemble those of the logits [T, V]."""
    rows, vocab = logits.shape
    return ops.sampling_probs(
        logits + torch.randn(logits.shape, generator=generator),
        torch.ones(rows),
        int32([min(4, vocab)] * rows),
        torch.ones(rows),
        torch.zeros(rows),
    )


def greedy_tree(**changes) -> TreeCase:
    r"""Root 0 with children 1 (token 5) and 2 (token 6); 3 (token 7) below 1; 0, 1 and 2 have rows.

    Greedy: the root says 5, node 1 says 7, node 2 says 0.
    """
    logits = torch.zeros(3, 8)
    logits[0, 5] = logits[1, 7] = logits[2, 0] = 1
    case = TreeCase(
        candidates=int32([[3, 5, 6, 7]]),
        parents=int32([[-1, 0, 0, 1]]),
        n_nodes=int32([4]),
        row_indptr=int32([0, 3]),
        target_logits=logits,
        temperature=torch.zeros(1),
        top_k=int32([0]),
        top_p=torch.ones(1),
        min_p=torch.zeros(1),
        seed=torch.zeros(1, dtype=torch.int64),
        position=int32([10]),
    )
    return TreeCase(**{**vars(case), **changes})


def together(*cases: TreeCase) -> TreeCase:
    """Requests of one coupling and N as one batch."""
    batch = TreeCase(
        *(
            torch.cat(t) if t[0] is not None else None
            for t in zip(*(c.arguments() for c in cases), strict=True)
        )
    )
    n_rows = torch.cat([case.row_indptr.diff() for case in cases])
    batch.row_indptr = torch.cat([int32([0]), n_rows.cumsum(0, dtype=torch.int32)])
    return batch


def two_failures_along_a_path() -> TreeCase:
    """The root's first child fails and its second passes, whose own first child fails."""
    vocab = 8
    logits = torch.full((3, vocab), -math.inf)
    for row, token in enumerate((2, 0, 3)):
        logits[row, token] = 0.0
    draft = torch.zeros(3, vocab)
    draft[0, 1:3] = 0.5
    draft[1, 0] = draft[2, 1] = 1.0
    return greedy_tree(
        candidates=int32([[0, 1, 2, 1]]),
        parents=int32([[-1, 0, 0, 2]]),
        n_nodes=int32([4]),
        row_indptr=int32([0, 3]),
        target_logits=logits,
        temperature=torch.ones(1),
        draft_probs=draft,
        draw=torch.tensor([[0, 1, 2, 1]], dtype=torch.uint8),
    )
