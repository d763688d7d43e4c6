"""Products in few bits: against the reference, and that a row's bits are its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from specbranch import ops, reference
from specbranch.loading import packing
from specbranch.reference.linear import GROUP, unpack
from tests.ops.cases import DTYPES, generators, int32
from tests.ops.layouts import MATRIX_LAYOUTS
from tests.ops.rows import some_alone_and_among_all


@dataclass
class Product:
    """x [R, K]; weight packed, of N outputs; bias [N] or None."""

    x: Tensor
    weight: Tensor
    out_features: int
    bias: Tensor | None

    def of(self, x: Tensor) -> Tensor:
        return ops.quantized_linear(x, self.weight, self.out_features, self.bias)


@st.composite
def products(draw: st.DrawFn, max_rows: int = 40) -> Product:
    """Weights of any levels, among them scales of nothing and the largest levels everywhere."""
    generator = draw(generators())
    out_features, groups = draw(st.integers(1, 80)), draw(st.integers(1, 9))
    rows, bits = draw(st.integers(0, max_rows)), draw(st.sampled_from([4, 8]))
    shape = out_features, groups * GROUP
    levels = torch.randint(0, 2**bits, shape, generator=generator).byte()
    if draw(st.booleans()):
        levels.fill_(2**bits - 1)
    scale = torch.rand(out_features, groups, generator=generator)
    scale[torch.rand(scale.shape, generator=generator) < 0.1] = 0
    minimum = torch.randn(scale.shape, generator=generator).half() if bits == 4 else None
    x = torch.randn(rows, shape[1], generator=generator) * draw(st.sampled_from([1e-4, 1, 1e3]))
    if draw(st.booleans()):
        x = x.sign() * x.abs().max() if x.numel() else x
    bias = torch.randn(out_features, generator=generator) if draw(st.booleans()) else None
    dtype = draw(st.sampled_from(DTYPES))
    weight = packing.pack(levels, scale.half(), minimum)
    return Product(x.to(dtype), weight, out_features, bias)


@settings(max_examples=200)
@given(case=products(), layout=st.sampled_from(MATRIX_LAYOUTS))
def test_equals_reference(case, layout):
    got = case.of(layout(case.x))
    assert got.dtype is case.x.dtype
    expected = reference.quantized_linear(case.x, case.weight, case.out_features, case.bias)
    matrix = unpack(case.weight)[: case.out_features]
    sizes = case.x.double().abs() @ matrix.abs().T + (0 if case.bias is None else case.bias.abs())
    error = (got.double() - expected).abs()
    rounding = 1e-5 if case.x.dtype is torch.float32 else torch.finfo(case.x.dtype).eps
    fits = expected.abs() < torch.finfo(case.x.dtype).max
    assert (error <= 1e-5 * sizes + rounding * expected.abs() + 1e-7)[fits].all()


@settings(max_examples=100)
@given(case=products(), threads=st.sampled_from([1, 2, 3]), data=st.data())
def test_a_row_depends_on_itself_alone(case, threads, data):
    some, among_all = some_alone_and_among_all(case.of, case.x, threads, data)
    torch.testing.assert_close(some, among_all, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("bits", [4, 8])
def test_large_layers_on_several_threads(bits):
    torch.manual_seed(0)
    weight, x = torch.randn(2000, 576) / 24, torch.randn(70, 576)
    case = Product(x, packing.quantize(weight, bits), 2000, None)
    got = case.of(x)
    expected = reference.quantized_linear(x, case.weight, 2000)
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)
    for row in (0, 33, 69):
        assert torch.equal(case.of(x[row : row + 1])[0], got[row])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("bits", [4, 8])
def test_what_is_not_finite_spoils_its_row_alone(bits, value):
    torch.manual_seed(0)
    x = torch.randn(12, 96)
    case = Product(x, packing.quantize(torch.randn(40, 96), bits), 40, None)
    clean = case.of(x)
    x[5, 70] = value
    got = case.of(x)
    assert got[5].isnan().all()
    others = torch.arange(12) != 5
    assert torch.equal(got[others], clean[others])


@given(case=products(max_rows=1), data=st.data())
def test_rows_are_what_is_multiplied_by(case, data):
    ids = int32(data.draw(st.lists(st.integers(0, case.out_features - 1), max_size=20)))
    rows = ops.quantized_rows(case.weight, ids)
    expected = reference.quantized_rows(case.weight, ids)
    torch.testing.assert_close(rows, expected.float(), rtol=2**-23, atol=0)
    one_hot = torch.eye(case.x.shape[1])
    columns = ops.quantized_linear(one_hot, case.weight, case.out_features)
    torch.testing.assert_close(columns.T[ids.long()], rows, rtol=1e-5, atol=1e-5)


def test_levels_of_packed_weights_come_back():
    torch.manual_seed(0)
    scale, minimum = torch.rand(2, 50, 3).half()
    for bits, least in ((4, minimum), (8, None)):
        levels = torch.randint(0, 2**bits, (50, 96)).byte()
        groups = levels.double().unflatten(1, (3, GROUP))
        offset = -128 * scale.double() if least is None else least.double()
        expected = groups * scale.double()[..., None] + offset[..., None]
        found = unpack(packing.pack(levels, scale, least))
        assert torch.equal(found[:50], expected.flatten(1))
        assert not found[50:].any()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("shape", [(16, 32), (50, 96), (5000, 64)])
def test_rounding_is_to_the_nearest_level(bits, shape):
    torch.manual_seed(0)
    weight = torch.randn(shape)
    groups = weight.unflatten(1, (-1, GROUP))
    step = (groups.amax(-1) - groups.amin(-1)) / 15 if bits == 4 else groups.abs().amax(-1) / 127
    found = unpack(packing.quantize(weight, bits))[: shape[0]]
    error = (found - weight).abs().unflatten(1, (-1, GROUP))
    rounding = 2**-11 * (groups.abs().amax(-1) + 2**bits * step)  # of scale and minimum
    assert (error <= 0.5 * step[..., None] + rounding[..., None]).all()
    assert error.mean() > 0.2 * step.mean()  # it has no more bits than that


def test_rounding_keeps_what_lies_on_levels():
    torch.manual_seed(0)
    levels = torch.randint(0, 16, (48, 3, GROUP))
    levels[..., 0], levels[..., 1] = 0, 15
    weight = ((levels - 8) * 0.125 + 0.5).flatten(1)
    assert torch.equal(unpack(packing.quantize(weight, 4)).float(), weight)


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_of_nothing(bits):
    assert not unpack(packing.quantize(torch.zeros(20, 64), bits)).any()
