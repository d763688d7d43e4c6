"""On a CPU a row of branch_attention has the bits of plain decoding: its path as context, alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from specbranch import ops
from tests.ops.cases import (
    DTYPES,
    AttentionCase,
    generators,
    int32,
    mask_of,
    random_pages,
    random_parents,
    row_indptr_of,
)


@dataclass
class Request:
    """k, v [positions, Hkv, D]: of the context, then of the nodes. q [rows, Hq, D]: of the last."""

    context: int
    parents: Tensor
    q: Tensor
    k: Tensor
    v: Tensor

    @property
    def nodes(self) -> int:
        return len(self.parents)

    def path(self, row: int) -> list[int]:
        """The positions that a row sees, in order."""
        node = self.nodes - len(self.q) + row
        nodes = []
        while node >= 0:
            nodes.append(self.context + node)
            node = int(self.parents[node])
        return [*range(self.context), *reversed(nodes)]


def random_request(
    context: int, nodes: int, rows: int, heads: tuple[int, int, int], dtype: torch.dtype, generator
) -> Request:
    qo_heads, kv_heads, head_dim = heads
    k, v = torch.randn(2, context + nodes, kv_heads, head_dim, generator=generator).to(dtype)
    q = torch.randn(rows, qo_heads, head_dim, generator=generator).to(dtype)
    return Request(context, random_parents(nodes, nodes, generator), q, k, v)


def case_of(requests: list[Request], page_size: int, softcap: float, window: int) -> AttentionCase:
    """All in one call, and a row of padding."""
    generator = torch.Generator().manual_seed(page_size)
    pages = random_pages([len(r.k) for r in requests], page_size, generator)
    first = requests[0]
    shape = (pages.n_pages, page_size, *first.k.shape[1:])
    k_cache, v_cache = torch.full((2, *shape), math.nan, dtype=first.k.dtype)
    masks = [mask_of(r.parents, len(r.q)) for r in requests]
    words = max(m.shape[1] for m in masks)
    for b, request in enumerate(requests):
        positions = torch.arange(len(request.k))
        where = pages.block_table[b][positions // page_size].long(), positions % page_size
        k_cache[where], v_cache[where] = request.k, request.v
    padding = torch.full_like(first.q[:1], math.nan)
    return AttentionCase(
        q=torch.cat([*(r.q for r in requests), padding]),
        k_cache=k_cache,
        v_cache=v_cache,
        block_table=pages.block_table,
        context_lens=int32([r.context for r in requests]),
        n_nodes=int32([r.nodes for r in requests]),
        row_indptr=row_indptr_of([len(r.q) for r in requests]),
        ancestor_mask=torch.cat(
            [
                *(torch.nn.functional.pad(m, (0, words - m.shape[1])) for m in masks),
                torch.zeros(1, words, dtype=torch.int32),
            ]
        ),
        scale=first.q.shape[-1] ** -0.5,
        softcap=softcap,
        window=window,
    )


def plain(request: Request, row: int) -> Request:
    """The row as the newest token of a text without branches."""
    path = request.path(row)
    return Request(
        context=len(path) - 1,
        parents=int32([-1]),
        q=request.q[row : row + 1],
        k=request.k[path],
        v=request.v[path],
    )


def attend(case: AttentionCase, threads: int) -> tuple[Tensor, Tensor]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        out, lse = ops.branch_attention(*case.arguments())
    finally:
        torch.set_num_threads(before)
    return out[: case.n_rows], lse[: case.n_rows]


def assert_decodes_plainly(
    requests: list[Request], page_sizes: tuple[int, int], softcap: float, window: int
) -> None:
    """Each row's bits are those that its text alone gives."""
    case = case_of(requests, page_sizes[0], softcap, window)
    out, lse = attend(case, threads=2)
    alone = [
        attend(case_of([plain(r, row)], page_sizes[1], softcap, window), threads=1)
        for r in requests
        for row in range(len(r.q))
    ]
    for found, expected in zip((out, lse), zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(found, torch.cat(expected), rtol=0, atol=0)


@settings(max_examples=100)
@given(
    generator=generators(),
    dtype=st.sampled_from(DTYPES),
    heads=st.sampled_from([(1, 1), (4, 2), (7, 1), (9, 3)]),
    head_dim=st.sampled_from([8, 24, 64, 128]),
    page_sizes=st.tuples(*[st.sampled_from([1, 3, 16, 64, 1000])] * 2),
    softcap=st.sampled_from([0.0, 0.0, 5.0]),
    window=st.sampled_from([0, 0, 1, 20, 100, 700]),
    contexts=st.lists(
        st.sampled_from([0, 1, 7, 63, 64, 65, 130, 500, 511, 512, 1030]), min_size=1, max_size=4
    ),
    size=st.sampled_from([1, 3, 8, 33, 70, 140]),
)
def test_rows_of_a_ragged_batch(
    generator, dtype, heads, head_dim, page_sizes, softcap, window, contexts, size
):
    requests = []
    for i, context in enumerate(contexts):
        nodes = int(torch.randint(1, size + 1, (), generator=generator))
        fewest = 1 if i == 0 else 0
        rows = int(torch.randint(fewest, min(nodes, 12) + 1, (), generator=generator))
        shape = (*heads, head_dim)
        requests.append(random_request(context, nodes, rows, shape, dtype, generator))
    assert_decodes_plainly(requests, page_sizes, softcap, window)


@pytest.mark.parametrize("window", [0, 50])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_a_long_block(dtype, window):
    """More rows than are scored at once, a chain that goes on over several tiles and chunks."""
    generator = torch.Generator().manual_seed(0)
    request = random_request(450, 200, 200, (3, 1, 64), dtype, generator)
    chain = replace(request, parents=torch.arange(-1, 199, dtype=torch.int32))
    for tree in (request, chain):
        assert_decodes_plainly([tree], (16, 64), 0.0, window)


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_number_of_threads(dtype):
    generator = torch.Generator().manual_seed(3)
    request = random_request(3000, 8, 8, (9, 3, 64), dtype, generator)
    case = case_of([request, request], 64, 0.0, 0)
    expected = attend(case, threads=1)
    for threads in (2, 5):
        for found, wanted in zip(attend(case, threads), expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=0)
