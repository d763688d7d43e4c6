from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from specbranch import ops, reference
from tests.ops.cases import (
    DTYPES,
    generators,
    int32,
    ragged_batches,
    random_pages,
    row_indptr_of,
)
from tests.ops.layouts import HEAD_LAYOUTS, MATRIX_LAYOUTS


def assert_same_bits(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)


@given(
    generator=generators(),
    dtype=st.sampled_from(DTYPES),
    batch=ragged_batches(9, max_context=40),
    padding=st.integers(0, 2),
    heads=st.sampled_from([1, 2, 5]),
    head_dim=st.sampled_from([8, 24, 64, 256]),
    page_size=st.sampled_from([1, 3, 16, 64]),
    cache_layout=st.sampled_from(HEAD_LAYOUTS),
    new_layout=st.sampled_from(HEAD_LAYOUTS),
    table_layout=st.sampled_from(MATRIX_LAYOUTS),
)
def test_append_writes_its_rows_and_nothing_else(
    generator,
    dtype,
    batch,
    padding,
    heads,
    head_dim,
    page_size,
    cache_layout,
    new_layout,
    table_layout,
):
    rows = [n for _, _, n in batch]
    ends = [start + n if n else 0 for (start, _, _), n in zip(batch, rows, strict=True)]
    pages = random_pages(ends, page_size, generator)
    shape = (pages.n_pages, page_size, heads, head_dim)
    before = torch.randn(2, *shape, generator=generator).to(dtype)
    k, v = torch.randn(2, sum(rows) + padding, heads, head_dim, generator=generator).to(dtype)
    k[sum(rows) :] = v[sum(rows) :] = math.nan
    lengths = int32([start for start, _, _ in batch]), row_indptr_of(rows)

    caches = [cache_layout(c) for c in before]
    ops.append_kv_(new_layout(k), new_layout(v), *caches, table_layout(pages.block_table), *lengths)
    expected = [c.clone() for c in before]
    reference.append_kv_(k, v, *expected, pages.block_table, *lengths)
    for cache, wanted in zip(caches, expected, strict=True):
        assert_same_bits(cache, wanted)


@st.composite
def kept_nodes(draw: st.DrawFn, width: int = 10) -> list[int]:
    return sorted(draw(st.sets(st.integers(0, 39), max_size=width)))


@given(
    generator=generators(),
    dtype=st.sampled_from(DTYPES),
    requests=st.lists(st.tuples(st.integers(0, 40), kept_nodes()), min_size=1, max_size=4),
    layers=st.integers(1, 3),
    heads=st.sampled_from([1, 2, 5]),
    head_dim=st.sampled_from([8, 24, 64, 256]),
    page_size=st.sampled_from([1, 3, 16, 64]),
    layout=st.sampled_from(HEAD_LAYOUTS),
    table_layout=st.sampled_from(MATRIX_LAYOUTS),
)
def test_compaction_moves_what_is_kept_and_nothing_else(
    generator, dtype, requests, layers, heads, head_dim, page_size, layout, table_layout
):
    ends = [context + max(keep, default=-1) + 1 for context, keep in requests]
    pages = random_pages(ends, page_size, generator)
    shape = (2 * layers, pages.n_pages, page_size, heads, head_dim)
    before = torch.randn(shape, generator=generator).to(dtype)
    before[torch.rand(shape[:-2], generator=generator) < 0.1] = math.nan
    keep = torch.full((len(requests), 10), 2**31 - 1, dtype=torch.int32)
    for b, (_, nodes) in enumerate(requests):
        keep[b, : len(nodes)] = int32(nodes)
    lengths = (
        int32([c for c, _ in requests]),
        table_layout(keep),
        int32([len(n) for _, n in requests]),
    )

    caches = [layout(c) for c in before]
    ops.compact_kv_(caches[:layers], caches[layers:], table_layout(pages.block_table), *lengths)
    expected = list(before.clone())
    reference.compact_kv_(expected[:layers], expected[layers:], pages.block_table, *lengths)
    for cache, wanted in zip(caches, expected, strict=True):
        assert_same_bits(cache, wanted)


@pytest.mark.parametrize("keep", [[0], [0, 1, 2], [1, 2, 3], [0, 3], [2, 3, 7]])
def test_compaction_of_one_page_by_hand(keep):
    cache = torch.arange(16.0)[None, :, None, None].expand(1, 16, 1, 8).contiguous()
    values = cache.clone()
    ops.compact_kv_([cache], [values], int32([[0]]), int32([4]), int32([keep]), int32([len(keep)]))
    expected = list(range(16))
    expected[4 : 4 + len(keep)] = [4 + node for node in keep]
    assert cache[0, :, 0, 0].tolist() == expected
    assert values[0, :, 0, 7].tolist() == expected


def test_compaction_of_many_layers_is_one_call_for_all():
    generator = torch.Generator().manual_seed(0)
    caches = list(torch.randn(60, 4, 16, 3, 64, generator=generator))
    expected = [c.clone() for c in caches]
    arguments = int32([[2, 0, 3]]), int32([20]), int32([[0, 2, 5, 11]]), int32([4])
    ops.compact_kv_(caches[:30], caches[30:], *arguments)
    reference.compact_kv_(expected[:30], expected[30:], *arguments)
    for cache, wanted in zip(caches, expected, strict=True):
        assert_same_bits(cache, wanted)
