"""The steps between products and attention on the simulated device."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from specbranch import reference
from tests.ops.cases import DTYPES, generators, int32
from tests.ops.layer_cases import RopeCase, assert_rounded, rope_cases
from tests.ops.layouts import MATRIX_LAYOUTS
from tests.simt.device import SCHEDULES, Device, Schedule, Traffic, device
from tests.simt.layers import (
    ACTIVATIONS,
    AddRmsNormParams,
    GatedActivationParams,
    RmsNorm,
    RopeAppendKvParams,
)

schedules = st.sampled_from(SCHEDULES)
layouts = st.sampled_from(MATRIX_LAYOUTS)
WIDTHS = st.sampled_from([1, 40, 64, 136, 4104])
HEADS, KV_HEADS, HEAD_DIM, ROWS = 8, 2, 128, 3


def simulate(schedule: Schedule = SCHEDULES[0]) -> Device:
    simulated = device("forward")
    simulated.reset()
    simulated.set_schedule(schedule)
    return simulated


def place_case(simulated: Device, case: RopeCase) -> RopeCase:
    written = ("q", "k_cache", "v_cache")
    return RopeCase(
        *(
            simulated.place(value, name, writable=name in written)
            if isinstance(value, Tensor)
            else value
            for name, value in case.arguments().items()
        )
    )


@given(
    schedule=schedules,
    generator=generators(),
    dtype=st.sampled_from(DTYPES),
    width=WIDTHS,
    offset=st.sampled_from([0.0, 1.0]),
    layouts=st.tuples(layouts, layouts),
)
def test_norms_equal_the_reference(schedule, generator, dtype, width, offset, layouts):
    given_x, given_residual, (weight, *_) = torch.randn(3, 2, width, generator=generator).to(dtype)
    simulated = simulate(schedule)
    x = simulated.place(layouts[0](given_x), "x", writable=True)
    residual = simulated.place(layouts[1](given_residual), "residual", writable=True)
    norm = RmsNorm.of(simulated.place(weight, "weight"), 1e-6, offset)
    simulated.launch("add_rms_norm", AddRmsNormParams.of(x, residual, x, norm))
    assert torch.equal(residual, given_residual + given_x)
    wanted = reference.rms_norm(residual, weight, 1e-6, offset)
    assert_rounded(x, wanted)
    simulated.launch("add_rms_norm", AddRmsNormParams.of(None, residual, residual, norm))
    assert_rounded(residual, wanted)


@pytest.mark.parametrize("name", ACTIVATIONS)
@given(
    schedule=schedules,
    generator=generators(),
    dtype=st.sampled_from(DTYPES),
    width=WIDTHS,
    layouts=st.tuples(layouts, layouts),
)
def test_gates_equal_the_reference(name, schedule, generator, dtype, width, layouts):
    x = (8 * torch.randn(2, 2 * width, generator=generator)).to(dtype)
    simulated = simulate(schedule)
    out = simulated.place(layouts[1](torch.zeros(2, width, dtype=dtype)), "out", writable=True)
    params = GatedActivationParams.of(name, simulated.place(layouts[0](x), "x"), out)
    simulated.launch("gated_activation", params)
    assert_rounded(out, getattr(reference, name)(x))


@given(schedule=schedules, case=rope_cases(page_sizes=[1, 3, 16]))
def test_rotation_writes_its_rows_and_nothing_else(schedule, case):
    simulated = simulate(schedule)
    placed = place_case(simulated, case)
    simulated.launch("rope_append_kv", RopeAppendKvParams.of(placed))
    expected = case.copied()
    reference.rope_append_kv_(**expected.arguments())
    placed.check(case, expected)


def counted(op: str, params: object) -> Traffic:
    traffic: list[Traffic] = []
    simulated = device("forward")
    with simulated.counting(traffic):
        simulated.launch(op, params)
    return traffic[0]


def assert_moves(traffic: Traffic, *, reads: int, writes: int) -> None:
    """In bytes: whole sectors, and little beside the data."""
    assert traffic.global_writes.transactions == traffic.global_writes.ideal == writes // 32
    assert traffic.global_reads.excess < 1.1
    assert traffic.global_reads.transactions < 1.3 * reads // 32


def test_norms_move_whole_sectors(report_traffic):
    simulated, width = simulate(), 2048
    x, residual = (
        simulated.place(torch.randn(ROWS, width).bfloat16(), "rows", writable=True) for _ in "xr"
    )
    norm = RmsNorm.of(simulated.place(torch.randn(width).bfloat16(), "weight"), 1e-6, 0.0)
    traffic = counted("add_rms_norm", AddRmsNormParams.of(x, residual, x, norm))
    report_traffic("fused_add_rms_norm", traffic)
    # The residual is read again, from L1, and the weight by each row.
    assert_moves(traffic, reads=4 * 2 * ROWS * width, writes=2 * 2 * ROWS * width)


def test_gates_move_whole_sectors(report_traffic):
    simulated, width = simulate(), 4096
    x = simulated.place(torch.randn(ROWS, 2 * width).bfloat16(), "x")
    out = simulated.place(torch.zeros(ROWS, width).bfloat16(), "out", writable=True)
    traffic = counted("gated_activation", GatedActivationParams.of("silu_and_mul", x, out))
    report_traffic("silu_and_mul", traffic)
    assert_moves(traffic, reads=2 * 2 * ROWS * width, writes=2 * ROWS * width)


def test_rotation_moves_whole_sectors(report_traffic):
    heads = torch.randn(ROWS, HEADS + 2 * KV_HEADS, HEAD_DIM).bfloat16()
    q, k, v = heads.split([HEADS, KV_HEADS, KV_HEADS], dim=1)
    caches = torch.zeros(2, 4, 16, KV_HEADS, HEAD_DIM).bfloat16()
    angles = torch.randn(40, HEAD_DIM // 2)
    case = RopeCase(
        *(q, k, v, *caches, int32([[3, 1]]), int32([14]), int32([0, ROWS]), int32([14, 15, 16])),
        *(angles.cos(), angles.sin(), None, None, 0.0, 0.0),
    )
    simulated = simulate()
    placed = place_case(simulated, dataclasses.replace(case))
    traffic = counted("rope_append_kv", RopeAppendKvParams.of(placed))
    report_traffic("rope_append_kv_", traffic)
    data, angles_read = 2 * heads.numel(), ROWS * (HEADS + KV_HEADS) * 2 * 4 * HEAD_DIM // 2
    # Each warp also reads where its head goes.
    assert_moves(traffic, reads=2 * (data + angles_read), writes=data)
