from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from specbranch import reference
from tests.ops.cases import (
    DTYPES,
    generators,
    int32,
    ragged_batches,
    random_pages,
    row_indptr_of,
)
from tests.ops.layouts import HEAD_LAYOUTS, MATRIX_LAYOUTS
from tests.simt.device import SCHEDULES, Device, device
from tests.simt.params import AppendKvParams, CompactKvParams


def assert_same_bits(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)


def place_caches(simulated: Device, name: str, caches: list[Tensor]) -> list[Tensor]:
    return [simulated.place(c, f"{name}[{i}]", writable=True) for i, c in enumerate(caches)]


@given(
    schedule=st.sampled_from(SCHEDULES),
    generator=generators(),
    dtype=st.sampled_from(DTYPES),
    batch=ragged_batches(4, max_context=20),
    padding=st.integers(0, 2),
    heads=st.sampled_from([1, 2, 5]),
    head_dim=st.sampled_from([8, 24, 64, 128]),
    page_size=st.sampled_from([1, 3, 16, 128]),
    cache_layout=st.sampled_from(HEAD_LAYOUTS),
    new_layout=st.sampled_from(HEAD_LAYOUTS),
    table_layout=st.sampled_from(MATRIX_LAYOUTS),
)
def test_append_writes_its_rows_and_nothing_else(
    schedule,
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
    before = torch.full((2, pages.n_pages, page_size, heads, head_dim), math.nan).to(dtype)
    k, v = torch.randn(2, sum(rows) + padding, heads, head_dim, generator=generator).to(dtype)
    lengths = int32([start for start, _, _ in batch]), row_indptr_of(rows)
    expected = [c.clone() for c in before]
    reference.append_kv_(k, v, *expected, pages.block_table, *lengths)

    simulated = device("kv_cache")
    simulated.reset()
    simulated.set_schedule(schedule)
    new = simulated.place(new_layout(k), "k"), simulated.place(new_layout(v), "v")
    caches = place_caches(simulated, "cache", [cache_layout(c) for c in before])
    table = simulated.place(table_layout(pages.block_table), "block_table")
    start, row_indptr = (
        simulated.place(t, name) for t, name in zip(lengths, ("start", "row_indptr"), strict=True)
    )
    params = AppendKvParams.of(*new, *caches, table, start, row_indptr)
    simulated.launch("append_kv", params)
    for cache, wanted in zip(caches, expected, strict=True):
        assert_same_bits(cache, wanted)


@given(
    schedule=st.sampled_from(SCHEDULES),
    generator=generators(),
    dtype=st.sampled_from(DTYPES),
    requests=st.lists(
        st.tuples(st.integers(0, 20), st.sets(st.integers(0, 39), max_size=20).map(sorted)),
        min_size=1,
        max_size=3,
    ),
    layers=st.integers(1, 2),
    heads=st.sampled_from([1, 2, 5]),
    head_dim=st.sampled_from([8, 24, 64, 128]),
    page_size=st.sampled_from([1, 3, 16, 128]),
    layout=st.sampled_from(HEAD_LAYOUTS),
    table_layout=st.sampled_from(MATRIX_LAYOUTS),
)
def test_compaction_moves_what_is_kept_and_nothing_else(
    schedule,
    generator,
    dtype,
    requests,
    layers,
    heads,
    head_dim,
    page_size,
    layout,
    table_layout,
):
    ends = [context + max(keep, default=-1) + 1 for context, keep in requests]
    pages = random_pages(ends, page_size, generator)
    shape = (2 * layers, pages.n_pages, page_size, heads, head_dim)
    before = torch.randn(shape, generator=generator).to(dtype)
    before[torch.rand(shape[:-2], generator=generator) < 0.1] = math.nan
    keep = torch.full((len(requests), 20), 2**31 - 1, dtype=torch.int32)
    for b, (_, nodes) in enumerate(requests):
        keep[b, : len(nodes)] = int32(nodes)
    context_lens = int32([c for c, _ in requests])
    keep_lens = int32([len(n) for _, n in requests])
    expected = list(before.clone())
    reference.compact_kv_(
        expected[:layers], expected[layers:], pages.block_table, context_lens, keep, keep_lens
    )

    simulated = device("kv_cache")
    simulated.reset()
    simulated.set_schedule(schedule)
    caches = place_caches(simulated, "cache", [layout(c) for c in before])
    params = CompactKvParams.of(
        caches[:layers],
        caches[layers:],
        simulated.place(table_layout(pages.block_table), "block_table"),
        simulated.place(context_lens, "context_lens"),
        simulated.place(table_layout(keep), "keep"),
        simulated.place(keep_lens, "keep_lens"),
    )
    simulated.launch("compact_kv", params)
    for cache, wanted in zip(caches, expected, strict=True):
        assert_same_bits(cache, wanted)
