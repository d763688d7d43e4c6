from __future__ import annotations

import math

import pytest
import torch
from hypothesis import event, given, settings

from specbranch import ops, reference
from specbranch.reference.sampling import rows_of
from tests.ops.cases import DTYPES, int32, sampling_cases
from tests.ops.near_ties import is_clear_cut

SMALLEST = 2 * torch.finfo(torch.float32).tiny
"""Probabilities below may be flushed to zero."""


@settings(max_examples=250)
@given(case=sampling_cases(max_vocab=3000))
def test_equals_reference(case):
    probs = ops.sampling_probs(case.logits, *case.filters())
    expected = reference.sampling_probs(case.logits, *case.filters())
    assert probs.dtype == torch.float32
    for r, params in enumerate(rows_of(*case.filters())):
        if is_clear_cut(case.logits[r], params):
            assert (probs[r][expected[r] == 0] == 0).all()
            assert (probs[r][expected[r] > SMALLEST] > 0).all()
            torch.testing.assert_close(probs[r].double(), expected[r], rtol=5e-5, atol=SMALLEST)
        else:  # a token on the filter's very edge: in or out, and nothing else may change
            event("a filter's edge within rounding")
            assert abs(int((probs[r] > 0).sum()) - int((expected[r] > 0).sum())) <= 4
            assert float(probs[r].sum()) == pytest.approx(1, abs=1e-5)


def law(logits, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, dtype=torch.float32):
    return ops.sampling_probs(
        torch.tensor([logits], dtype=dtype),
        torch.tensor([temperature]),
        int32([top_k]),
        torch.tensor([top_p]),
        torch.tensor([min_p]),
    )[0].tolist()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, [0.25] * 4),
        ({"top_k": 2}, [0.5, 0.5, 0, 0]),
        ({"top_k": 4}, [0.25] * 4),
        ({"top_k": 9}, [0.25] * 4),
        ({"top_p": 0.25}, [1, 0, 0, 0]),
        ({"top_p": 0.26}, [0.5, 0.5, 0, 0]),  # the token that crosses is kept
        ({"top_p": 0.5}, [0.5, 0.5, 0, 0]),
        ({"top_k": 2, "top_p": 0.5}, [1, 0, 0, 0]),  # of the renormalised rest
        ({"min_p": 1.0}, [0.25] * 4),
        ({"temperature": 0.0}, [1, 0, 0, 0]),
        ({"temperature": 0.0, "top_k": 3, "top_p": 0.9, "min_p": 0.1}, [1, 0, 0, 0]),
    ],
)
def test_ties_go_to_the_lowest_id(filters, expected, dtype):
    assert law([1.5] * 4, **filters, dtype=dtype) == pytest.approx(expected, abs=1e-6)


def test_the_filters_apply_in_order():
    # p = 8, 4, 2, 1, 1 sixteenths. top_k 3 leaves 8, 4, 2 of 14; top_p 0.8 keeps 12/14; min_p is
    # relative to the largest: 0.5 keeps 4/8.
    logits = [math.log(p) for p in (8, 4, 2, 1, 1)]
    assert law(logits, top_k=3, top_p=0.8) == pytest.approx([2 / 3, 1 / 3, 0, 0, 0])
    assert law(logits, top_p=0.8) == pytest.approx([8 / 14, 4 / 14, 2 / 14, 0, 0])
    assert law(logits, min_p=0.49) == pytest.approx([2 / 3, 1 / 3, 0, 0, 0])
    assert law(logits, min_p=0.51) == [1, 0, 0, 0, 0]
    assert law(logits, temperature=0.5, min_p=0.24) == pytest.approx([0.8, 0.2, 0, 0, 0])


def test_excluded_and_absent_tokens_are_exactly_zero():
    assert law([0.0, -math.inf, 0.0]) == [0.5, 0, 0.5]
    assert law([-math.inf, -3.0, -math.inf], top_p=0.3, min_p=0.9) == [0, 1, 0]
    assert law([5.0, 0.0, 0.0], top_k=1)[1:] == [0, 0]


def test_extreme_temperatures():
    assert law([0.0, 1.0, 2.0], temperature=1e-4) == [0, 0, 1]
    assert law([0.0, 1.0, 2.0], temperature=1e6) == pytest.approx([1 / 3] * 3, abs=1e-5)
    assert law([3e4, 3e4, -3e4]) == [0.5, 0.5, 0]


@pytest.mark.parametrize(
    "logits",
    [[math.nan, 1, 2], [1, 2, math.nan], [-math.inf] * 3, [math.inf, 1, 2], [math.nan] * 3],
)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_without_a_law_is_nan_and_its_neighbours_are_not(logits, temperature):
    rows = torch.tensor([[0.0, 1, 2], logits, [0.0, 1, 2]])
    off = int32([0] * 3), torch.ones(3), torch.zeros(3)
    probs = ops.sampling_probs(rows, torch.full((3,), temperature), *off)
    assert probs[1].isnan().all()
    assert probs[[0, 2]].isfinite().all()
