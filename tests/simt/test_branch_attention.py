from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from specbranch import reference
from tests.ops.cases import DTYPES, AttentionCase, attention_cases, int32, row_indptr_of
from tests.simt.attention import Launch, make_case
from tests.simt.device import SCHEDULES, Order, Schedule, Traffic

# Weights are rounded to the dtype of the values before they are multiplied, so the error of a
# result is relative to the values, not to the result.
ROUNDING = {torch.float32: 2e-5, torch.float16: 2**-10, torch.bfloat16: 2**-7}

CONCURRENT = [
    Schedule(Order.RANDOM, seed=seed, resident_blocks=4, shuffle_blocks=True) for seed in range(4)
]


def assert_matches_reference(case: AttentionCase, out: Tensor, lse: Tensor) -> None:
    expected_out, expected_lse = reference.branch_attention(*case.arguments())
    rounding = ROUNDING[out.dtype]
    largest_value = case.v_cache.nan_to_num(0, 0, 0).abs().max().item()
    rows, padding = slice(case.n_rows), slice(case.n_rows, None)
    torch.testing.assert_close(
        out[rows].double(),
        expected_out[rows],
        rtol=rounding,
        atol=max(2e-5, rounding / 2 * largest_value),
    )
    torch.testing.assert_close(lse[rows].double(), expected_lse[rows], rtol=1e-5, atol=2e-5)
    assert out[padding].isnan().all()  # as it was before the launch
    assert lse[padding].isnan().all()


@settings(max_examples=40)
@given(case=attention_cases(), schedule=st.sampled_from(SCHEDULES))
def test_equals_reference_and_ignores_what_no_row_sees(case, schedule):
    assume(len(case.q) > 0)
    launch = Launch(case, num_multiprocessors=8)
    assert_matches_reference(launch.case, *launch.run(schedule))


@settings(max_examples=25)
@given(
    dtype=st.sampled_from([torch.bfloat16, torch.float16]),
    contexts=st.lists(st.sampled_from([1, 64, 65, 513, 1100]), min_size=1, max_size=3).map(tuple),
    size=st.sampled_from([1, 3, 8, 17, 33]),
    heads=st.sampled_from([(1, 1), (4, 1), (4, 2), (8, 1)]),
    head_dim=st.sampled_from([8, 64, 96, 128, 192, 256]),
    page_size=st.sampled_from([1, 8, 64, 2048]),
    softcap=st.sampled_from([0.0, 0.0, 20.0]),
    window=st.sampled_from([0, 0, 5, 100]),
    num_multiprocessors=st.sampled_from([1, 40, 132]),
    schedule=st.sampled_from(CONCURRENT),
    data=st.data(),
)
def test_splits_are_merged_in_the_launch_and_lengths_may_change_between_replays(
    contexts, size, num_multiprocessors, schedule, data, **shape
):
    nodes = tuple(data.draw(st.integers(0, size)) for _ in contexts)
    rows = tuple(data.draw(st.integers(0, n)) for n in nodes)
    case = make_case(contexts=contexts, nodes=nodes, rows=rows, padding=1, **shape)
    launch = Launch(case, num_multiprocessors)
    assert_matches_reference(launch.case, *launch.run(schedule))
    for b, context in enumerate(contexts):
        launch.case.context_lens[b] = data.draw(st.integers(0, context))
    fewer = [data.draw(st.integers(0, n)) for n in rows]
    launch.case.row_indptr.copy_(row_indptr_of(fewer))
    assert_matches_reference(launch.case, *launch.run(schedule))


@pytest.mark.parametrize("dtype", DTYPES)
def test_many_requests_share_the_row_tiles(dtype):
    """Requests without rows between others; one with more rows than a tile has."""
    rows = (0, 1, 0, 0, 40, 2, 1, *[0, 1, 3] * 8, 0)
    contexts = tuple(7 * b % 90 for b in range(len(rows)))
    shape = {"contexts": contexts, "nodes": tuple(n + 1 for n in rows), "rows": rows}
    case = make_case(dtype, **shape, padding=3, heads=(6, 2), window=30)
    for num_multiprocessors in (1, 400):
        launch = Launch(case, num_multiprocessors)
        assert_matches_reference(launch.case, *launch.run(SCHEDULES[2]))


@pytest.mark.parametrize("window", [0, 9])
@pytest.mark.parametrize("head_dim", [64, 256])
def test_draft_blocks_longer_than_a_tile_are_masked_throughout(head_dim, window):
    case = make_case(
        torch.bfloat16,
        contexts=(30, 0),
        nodes=(100, 70),
        rows=(100, 50),
        heads=(1, 1),
        head_dim=head_dim,
        window=window,
    )
    launch = Launch(case, num_multiprocessors=8)
    assert_matches_reference(launch.case, *launch.run(Schedule()))


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_levels_of_merging_give_the_same_bits_in_every_order(dtype):
    case = make_case(dtype, contexts=(1300,), nodes=(3,), rows=(3,), heads=(2, 1))
    launch = Launch(case, num_multiprocessors=132)
    assert launch.max_splits > 4
    results = [launch.run(schedule) for schedule in (*SCHEDULES, *CONCURRENT)]
    assert_matches_reference(launch.case, *results[0])
    for out, lse in results:
        torch.testing.assert_close(out, results[0][0], rtol=0, atol=0)
        torch.testing.assert_close(lse, results[0][1], rtol=0, atol=0)


def test_a_result_does_not_depend_on_other_requests():
    shape = {"rows": (8, 8), "head_dim": 128, "nodes": (8, 8)}
    case = make_case(torch.bfloat16, contexts=(700, 700), **shape)
    launch = Launch(case, num_multiprocessors=40)
    out, lse = launch.run(Schedule())
    launch.case.context_lens[1] = 33
    launch.case.q[8:] = 7
    other_out, other_lse = launch.run(Schedule())
    torch.testing.assert_close(other_out[:8], out[:8], rtol=0, atol=0)
    torch.testing.assert_close(other_lse[:8], lse[:8], rtol=0, atol=0)
    assert not torch.equal(other_out[8:], out[8:])


@pytest.mark.parametrize(("dtype", "head_dim"), [*((d, 64) for d in DTYPES), (DTYPES[-1], 256)])
@pytest.mark.parametrize("window", [0, 300])
def test_with_a_split_size_a_result_does_not_depend_on_shapes_or_the_device(
    dtype, head_dim, window
):
    """A request alone and among others with more rows, on a small device and on a large one."""
    shape = {"heads": (2, 1), "head_dim": head_dim, "window": window, "split_size": 64}
    many = make_case(dtype, contexts=(700, 900), nodes=(3, 30), rows=(3, 30), padding=5, **shape)
    alone = replace(
        many,
        q=many.q[:3].clone(),
        row_indptr=int32([0, 3]),
        **{n: getattr(many, n)[:1].clone() for n in ("block_table", "context_lens", "n_nodes")},
        ancestor_mask=many.ancestor_mask[:3].clone(),
    )
    alone.block_table[0, : (700 - window) // 16 if window else 0] = -1  # what a window left behind
    wanted_out, wanted_lse = Launch(alone, num_multiprocessors=2).run(Schedule())
    launch = Launch(many, num_multiprocessors=132)
    out, lse = launch.run(SCHEDULES[2])
    assert_matches_reference(launch.case, out, lse)
    torch.testing.assert_close(out[:3], wanted_out, rtol=0, atol=0)
    torch.testing.assert_close(lse[:3], wanted_lse, rtol=0, atol=0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("rows", "head_dim"), [(4, 256), (12, 64), (30, 96)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_value_reaches_the_rows_that_see_it_and_no_others(dtype, rows, head_dim, value):
    case = make_case(
        dtype,
        contexts=(70, 3),
        nodes=(rows, rows),
        rows=(rows, rows),
        head_dim=head_dim,
        page_size=8,
    )
    clean, clean_lse = Launch(case, num_multiprocessors=8).run(Schedule())
    node = 2
    for b, context in enumerate(case.context_lens.tolist()):
        page = case.block_table[b, (context + node) // 8]
        case.v_cache[page, (context + node) % 8, :, 1::2] = value
    launch = Launch(case, num_multiprocessors=8)
    out, lse = launch.run(Schedule())
    sees = (case.ancestor_mask[:, 0] >> node & 1).bool()
    assert sees.any()
    torch.testing.assert_close(out[~sees], clean[~sees], rtol=0, atol=0)
    torch.testing.assert_close(lse, clean_lse, rtol=0, atol=0)
    expected = torch.full_like(out[sees][..., 1::2], value)
    torch.testing.assert_close(out[sees][..., 1::2], expected, equal_nan=True)
    torch.testing.assert_close(out[sees][..., ::2], clean[sees][..., ::2], rtol=0, atol=0)


def assert_banks_are_used_well(traffic: Traffic) -> None:
    assert traffic.shared_reads.excess < 1.02
    assert traffic.shared_writes.excess < 1.5  # a row of 96 elements ends within a pass


@pytest.mark.parametrize(("rows", "head_dim"), [(4, 64), (8, 128), (16, 96), (8, 256)])
def test_the_context_is_read_once_in_whole_sectors(rows, head_dim, report_traffic):
    context = 512
    case = make_case(
        torch.bfloat16,
        contexts=(context,),
        nodes=(rows,),
        rows=(rows,),
        heads=(4, 1),
        head_dim=head_dim,
    )
    launch = Launch(case, num_multiprocessors=1)
    traffic = launch.count()
    report_traffic(f"branch_attention, {4 * rows} rows, head_dim {head_dim}", traffic)
    keys_and_values = 2 * (context + rows) * head_dim * 2
    queries_and_partial_results = launch.max_splits * 4 * rows * head_dim * (2 + 4)
    sectors = (keys_and_values + queries_and_partial_results) / 32
    assert sectors < traffic.global_reads.transactions < 1.05 * sectors
    assert traffic.global_writes.excess < 1.1
    assert_banks_are_used_well(traffic)


def test_the_limit_on_bank_conflicts_is_tripped_by_rows_without_padding():
    case = make_case(torch.bfloat16, contexts=(512,), nodes=(4,), rows=(4,), heads=(4, 1))
    launch = Launch(case, num_multiprocessors=1)
    assert_banks_are_used_well(launch.count())
    unpadded = launch.count("unpadded_attention")
    assert_matches_reference(launch.case, launch.out, launch.lse)
    with pytest.raises(AssertionError):
        assert_banks_are_used_well(unpadded)
    assert unpadded.shared_reads.excess > 4
