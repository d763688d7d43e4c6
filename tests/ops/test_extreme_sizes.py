"""Sizes of nothing and sizes beyond memory: a right result, or an error in words."""

from __future__ import annotations

import pytest
import torch

from specbranch import _C
from tests.ops.calls import CALLS
from tests.ops.cases import int32


def test_rows_of_no_inputs():
    weight = torch.zeros(3, 0, 544, dtype=torch.uint8)
    assert _C.quantized_rows(weight, int32([0, 47])).shape == (2, 0)


def test_a_product_of_no_inputs_is_the_bias():
    bias = torch.randn(40)
    product = _C.packed_linear(torch.zeros(3, 0), torch.zeros(2, 0, 32), 40, bias)
    assert torch.equal(product, bias.expand(3, 40))


@pytest.mark.parametrize("name", ["packed_linear", "quantized_linear"])
def test_an_empty_weight_has_no_outputs(name):
    arguments = CALLS[name]()
    arguments |= {"weight": arguments["weight"][:0], "bias": None}
    assert getattr(_C, name)(**{**arguments, "out_features": 0}).shape == (5, 0)
    with pytest.raises(ValueError, match=f"^{name}: out_features: expected 0 .*, got -1$"):
        getattr(_C, name)(**{**arguments, "out_features": -1})


@pytest.mark.parametrize(("name", "argument"), [("tree_mask", "num_rows"), ("draft_topk", "k")])
@pytest.mark.parametrize("count", [2**31, 2**62, -(2**63)])
def test_counts_beyond_int32(name, argument, count):
    with pytest.raises(
        ValueError, match=f"^{name}: {argument}: expected . or more, .* got {count}$"
    ):
        getattr(_C, name)(**{**CALLS[name](), argument: count})


def test_results_beyond_memory():
    row, rows = torch.zeros(1), 2**20
    filters = [row.expand(rows).contiguous() for _ in range(4)]
    filters[1] = filters[1].int()
    with pytest.raises(
        RuntimeError, match=r"no memory for a result of int32 \[1048576, 2147483647"
    ):
        _C.draft_topk(
            *(torch.zeros(rows, 1), 2**31 - 1, *filters),
            *(torch.zeros(rows).long(), torch.zeros(rows).int(), "gumbel"),
        )
