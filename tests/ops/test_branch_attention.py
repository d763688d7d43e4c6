from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from specbranch import ops, reference
from tests.ops.cases import DTYPES, AttentionCase, attention_cases, int32, mask_of

# Accumulation is in fp32 for every dtype, so the result is the exact one rounded once to its dtype.
ROUNDING = {torch.float32: 2e-5, torch.float16: 2**-10, torch.bfloat16: 2**-7}


def assert_matches_reference(case: AttentionCase) -> None:
    out, lse = ops.branch_attention(*case.arguments())
    expected_out, expected_lse = reference.branch_attention(*case.arguments())
    assert out.dtype == case.q.dtype
    assert lse.dtype == torch.float32
    rows = slice(case.n_rows)
    torch.testing.assert_close(
        out[rows].double(),
        expected_out[rows],
        rtol=ROUNDING[out.dtype],
        atol=2e-4 if out.dtype != torch.float32 else 2e-5,
    )
    torch.testing.assert_close(lse[rows].double(), expected_lse[rows], rtol=1e-5, atol=2e-5)


@settings(max_examples=150)
@given(case=attention_cases())
def test_equals_reference_and_ignores_what_no_row_sees(case):
    assert_matches_reference(case)


@given(case=attention_cases())
def test_rows_of_padding_are_not_written(case):
    out, lse = torch.full_like(case.q, 7), torch.full(case.q.shape[:2], 7.0)
    ops.branch_attention_out(*case.arguments(), out, lse)
    assert (out[case.n_rows :] == 7).all()
    assert (lse[case.n_rows :] == 7).all()


def full_case(dtype: torch.dtype = torch.float32, **changes) -> AttentionCase:
    """Two requests, a shared first page, a context of 5; below the root two branches."""
    generator = torch.Generator().manual_seed(0)
    k_cache, v_cache = torch.randn(2, 6, 4, 2, 16, generator=generator).to(dtype)
    case = AttentionCase(
        q=torch.randn(8, 6, 16, generator=generator).to(dtype),
        k_cache=k_cache,
        v_cache=v_cache,
        block_table=int32([[3, 1, 0], [3, 5, 2]]),
        context_lens=int32([5, 5]),
        n_nodes=int32([4, 4]),
        row_indptr=int32([0, 4, 8]),
        ancestor_mask=mask_of(int32([-1, 0, 0, 1]), 4).repeat(2, 1),
        scale=0.25,
        softcap=0.0,
        window=0,
    )
    return AttentionCase(**{**vars(case), **changes})


def attend(case: AttentionCase) -> tuple[Tensor, Tensor]:
    """out [2, 4, ...], lse [2, 4, ...] of a full case, by request and node."""
    out, lse = ops.branch_attention(*case.arguments())
    return out.unflatten(0, (2, 4)), lse.unflatten(0, (2, 4))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_never_see_another_branch(dtype):
    case = full_case(dtype)
    clean, clean_lse = attend(case)
    # Node 2 (logical position 7) is a branch of its own: slot 3 of the second page.
    for cache in (case.k_cache, case.v_cache):
        cache[[1, 5], 3] = math.nan
    out, lse = attend(case)
    others = [0, 1, 3]
    torch.testing.assert_close(out[:, others], clean[:, others], rtol=0, atol=0)
    torch.testing.assert_close(lse[:, others], clean_lse[:, others], rtol=0, atol=0)
    assert out[:, 2].isnan().all()


def test_infinite_values_of_invisible_slots_stay_out():
    case = full_case()
    case.k_cache[[1, 5], 3] = math.inf
    case.v_cache[[1, 5], 3] = -math.inf
    out, lse = attend(case)
    assert out[:, [0, 1, 3]].isfinite().all()
    assert lse[:, [0, 1, 3]].isfinite().all()


def test_rows_that_see_nothing_are_zero_with_lse_minus_infinity():
    case = full_case(context_lens=int32([0, 0]), ancestor_mask=torch.zeros(8, 1).int())
    out, lse = attend(case)
    assert (out == 0).all()
    assert (lse == -math.inf).all()


def test_nodes_beyond_the_block_are_not_seen():
    case = full_case()
    expected = attend(case)
    case.ancestor_mask = case.ancestor_mask | (0b1111 << 4)
    for actual, wanted in zip(attend(case), expected, strict=True):
        torch.testing.assert_close(actual, wanted, rtol=0, atol=0)


def test_window_counts_positions_along_the_path_not_slots():
    # Node 3 is the child of node 1: depths 0, 1, 1, 2. With a window of 2, node 3 sees {1, 3}.
    case = full_case(window=2)
    for cache in (case.k_cache, case.v_cache):
        cache[3] = math.nan  # logical positions 0..3 of both requests
    out, _ = attend(case)
    assert out.isfinite().all()
    for cache in (case.k_cache, case.v_cache):
        cache[[1, 5], 0] = math.nan  # logical position 4, which only the root's row still sees
    out, _ = attend(case)
    assert out[:, 0].isnan().all()
    assert out[:, 1:].isfinite().all()


def test_a_chain_is_plain_causal_attention():
    generator = torch.Generator().manual_seed(1)
    q, k, v = torch.randn(3, 1, 9, 4, 32, generator=generator)
    mask = mask_of(torch.arange(-1, 8, dtype=torch.int32), 9)
    out, _ = ops.branch_attention(
        q[0], k, v, int32([[0]]), int32([0]), int32([9]), int32([0, 9]), mask, scale=32**-0.5
    )
    expected = torch.nn.functional.scaled_dot_product_attention(
        *(x.transpose(1, 2) for x in (q, k, v)), is_causal=True
    ).transpose(1, 2)
    torch.testing.assert_close(out, expected[0])


@pytest.mark.parametrize("context", [1000, 5000])
@pytest.mark.parametrize("dtype", DTYPES)
def test_long_contexts_keep_their_precision(context, dtype):
    generator = torch.Generator().manual_seed(2)
    nodes, page_size = 8, 64
    n_pages = math.ceil((context + nodes) / page_size)
    assert_matches_reference(
        AttentionCase(
            q=3 * torch.randn(nodes, 6, 64, generator=generator).to(dtype),
            k_cache=torch.randn(n_pages, page_size, 2, 64, generator=generator).to(dtype),
            v_cache=torch.randn(n_pages, page_size, 2, 64, generator=generator).to(dtype),
            block_table=torch.randperm(n_pages, generator=generator, dtype=torch.int32)[None],
            context_lens=int32([context]),
            n_nodes=int32([nodes]),
            row_indptr=int32([0, nodes]),
            ancestor_mask=mask_of(int32([-1, 0, 0, 0, 1, 2, 4, 4]), nodes),
            scale=0.125,
            softcap=0.0,
            window=0,
        )
    )


def test_large_scores_do_not_overflow():
    case = full_case(scale=100.0)
    assert_matches_reference(case)
    assert_matches_reference(full_case(torch.float16, scale=30.0))
