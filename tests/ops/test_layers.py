"""The steps between products and attention: norms, rotation, gates."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from specbranch import ops, reference
from tests.ops.cases import DTYPES, generators, int32
from tests.ops.layer_cases import assert_rounded, rope_cases
from tests.ops.layouts import MATRIX_LAYOUTS

WIDTHS = st.sampled_from([1, 7, 64, 120, 1025])


@given(
    generator=generators(),
    dtype=st.sampled_from(DTYPES),
    rows=st.integers(0, 5),
    width=WIDTHS,
    offset=st.sampled_from([0.0, 1.0]),
    layouts=st.tuples(*3 * [st.sampled_from(MATRIX_LAYOUTS)]),
)
def test_norms_equal_the_reference(generator, dtype, rows, width, offset, layouts):
    x, residual, (weight, *_) = torch.randn(3, rows + 1, width, generator=generator).to(dtype)
    x, residual = layouts[0](x[:rows]), layouts[1](residual[:rows])
    normed = reference.rms_norm(x, weight, 1e-6, offset)
    out = layouts[2](torch.zeros(rows, width, dtype=dtype))
    ops.rms_norm_out(x, weight, 1e-6, offset, out)
    assert_rounded(out, normed)
    expected = x.clone(), residual.clone()
    reference.fused_add_rms_norm(*expected, weight, 1e-6, offset)
    ops.fused_add_rms_norm(x, residual, weight, 1e-6, offset)
    assert torch.equal(residual, expected[1])
    assert_rounded(x, reference.rms_norm(residual, weight, 1e-6, offset))
    ops.rms_norm_out(residual, weight, 1e-6, offset, residual)
    assert torch.equal(residual, x)


@pytest.mark.parametrize("name", ["silu_and_mul", "gelu_tanh_and_mul"])
@given(
    generator=generators(),
    dtype=st.sampled_from(DTYPES),
    rows=st.integers(0, 5),
    width=WIDTHS,
    layouts=st.tuples(*2 * [st.sampled_from(MATRIX_LAYOUTS)]),
)
def test_gates_equal_the_reference(name, generator, dtype, rows, width, layouts):
    x = layouts[0]((8 * torch.randn(rows, 2 * width, generator=generator)).to(dtype))
    out = layouts[1](torch.zeros(rows, width, dtype=dtype))
    getattr(ops, f"{name}_out")(x, out)
    assert_rounded(out, getattr(reference, name)(x))


@pytest.mark.parametrize("name", ["silu_and_mul", "gelu_tanh_and_mul"])
def test_gates_far_from_zero(name):
    x = torch.tensor([[-3e4, -200.0, 200.0, 3e4, 1.0, 1.0, 1.0, 1.0]])
    torch.testing.assert_close(getattr(ops, name)(x)[0], torch.tensor([0.0, 0.0, 200.0, 3e4]))


@given(case=rope_cases(page_sizes=[1, 3, 16, 64]))
def test_rotation_writes_its_rows_and_nothing_else(case):
    expected = case.copied()
    reference.rope_append_kv_(**expected.arguments())
    before = case.copied()
    ops.rope_append_kv_(**case.arguments())
    case.check(before, expected)


def test_nothing_is_rotated_without_angles():
    """And values, and what no norm and no rotation changes, keep their bits."""
    q, k, v = torch.randn(3, 2, 1, 8).unbind()
    caches = torch.full((2, 1, 4, 1, 8), math.nan)
    where = int32([[0]]), int32([0]), int32([0, 2]), int32([5, 6])
    before, none = q.clone(), torch.empty(0, 0)
    ops.rope_append_kv_(q, k, v, *caches, *where, none, none)
    assert torch.equal(q, before)
    assert torch.equal(caches[:, 0, :2], torch.stack([k, v]))
    assert caches[:, 0, 2:].isnan().all()
