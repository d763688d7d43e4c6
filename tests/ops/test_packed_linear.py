"""Products of packed weights: against the reference, and that a row's bits are its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from specbranch import ops, reference
from specbranch.loading.packing import lay_out
from specbranch.reference.linear import laid_flat
from tests.ops.cases import DTYPES, generators
from tests.ops.layouts import MATRIX_LAYOUTS
from tests.ops.rows import some_alone_and_among_all


@dataclass
class Product:
    """x [R, K]; matrix [N, K]; bias [N] or None."""

    x: Tensor
    matrix: Tensor
    bias: Tensor | None

    def of(self, x: Tensor) -> Tensor:
        return ops.packed_linear(x, lay_out(self.matrix), len(self.matrix), self.bias)


@st.composite
def products(draw: st.DrawFn, max_rows: int = 40) -> Product:
    generator = draw(generators())
    out_features, width = draw(st.integers(1, 100)), draw(st.integers(1, 150))
    dtype = draw(st.sampled_from(DTYPES))
    x = torch.randn(draw(st.integers(0, max_rows)), width, generator=generator)
    matrix = torch.randn(out_features, width, generator=generator)
    bias = torch.randn(out_features, generator=generator) if draw(st.booleans()) else None
    return Product(x.to(dtype), matrix.to(dtype), bias)


@settings(max_examples=200)
@given(case=products(), layout=st.sampled_from(MATRIX_LAYOUTS))
def test_equals_reference(case, layout):
    got = case.of(layout(case.x))
    assert got.dtype is case.x.dtype
    expected = reference.packed_linear(case.x, lay_out(case.matrix), len(case.matrix), case.bias)
    sizes = case.x.double().abs() @ case.matrix.double().abs().T + 1
    error = (got.double() - expected).abs()
    assert (error <= 1e-6 * sizes + torch.finfo(got.dtype).eps * expected.abs()).all()


@settings(max_examples=100)
@given(case=products(), threads=st.sampled_from([1, 2, 3]), data=st.data())
def test_a_row_depends_on_itself_alone(case, threads, data):
    some, among_all = some_alone_and_among_all(case.of, case.x, threads, data)
    assert torch.equal(some, among_all)


def test_large_layers_on_several_threads():
    torch.manual_seed(0)
    case = Product(torch.randn(70, 576), torch.randn(2000, 576) / 24, None)
    got = case.of(case.x)
    torch.testing.assert_close(got, case.x @ case.matrix.T, rtol=1e-5, atol=1e-5)
    for row in (0, 33, 69):
        assert torch.equal(case.of(case.x[row : row + 1])[0], got[row])


@given(case=products())
def test_what_was_laid_out_comes_back(case):
    assert torch.equal(laid_flat(lay_out(case.matrix), len(case.matrix)), case.matrix)
