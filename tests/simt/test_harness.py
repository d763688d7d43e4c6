"""What the simulated device computes and counts, against the same by hand."""

from __future__ import annotations

import pytest
import torch

from tests.simt.device import SCHEDULES, KernelError, Order, Schedule, Traffic, device


@pytest.fixture(params=SCHEDULES, ids=lambda s: s.order.name)
def simulated(request):
    simulated = device("primitives")
    simulated.reset()
    simulated.set_schedule(request.param)
    return simulated


@pytest.mark.parametrize(
    ("function", "dtype"), [("multiply_fp16", torch.float16), ("multiply_bf16", torch.bfloat16)]
)
def test_tensor_cores_multiply(simulated, function, dtype):
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(16, 16, generator=generator).to(dtype)
    b = torch.randn(16, 16, generator=generator).to(dtype)
    out = simulated.place(torch.zeros(16, 16), "c", writable=True)
    simulated.call(function, simulated.place(a, "a"), simulated.place(b, "b"), out)
    torch.testing.assert_close(out, a.float() @ b.float(), rtol=1e-6, atol=1e-5)


def test_collectives(simulated):
    values = torch.randint(-9, 9, (32,), dtype=torch.int32)
    out = simulated.place(torch.zeros(32, 8, dtype=torch.int32), "out", writable=True)
    simulated.call("collectives", simulated.place(values, "in"), out)
    lane = torch.arange(32)
    assert torch.equal(out[:, 0], values[5].expand(32))
    assert torch.equal(out[:, 1], values[lane ^ 3])
    assert torch.equal(out[:, 2], values[torch.where(lane % 8 < 6, lane + 2, lane)])
    assert torch.equal(out[:, 3], values[(lane - 1).clamp(min=0)])
    votes = sum(1 << i for i in range(32) if values[i] > 0)
    assert all(int(v) & 0xFFFFFFFF == votes for v in out[:, 4])
    assert out[:, 5].all()
    assert torch.equal(out[:, 6], torch.full((32,), 31, dtype=torch.int32))
    assert torch.equal(out[:, 7], (values > 0).sum(dtype=torch.int32).expand(32))


@pytest.mark.parametrize("size", [1, 64, 1000])
def test_the_last_block_sees_what_all_wrote(simulated, size):
    values = torch.arange(size, dtype=torch.int32)
    blocks = (size + 63) // 64
    partial = simulated.place(torch.zeros(blocks, dtype=torch.int32), "partial", writable=True)
    ticket = simulated.place(torch.zeros(1, dtype=torch.int32), "ticket", writable=True)
    out = simulated.place(torch.zeros(1, dtype=torch.int32), "out", writable=True)
    simulated.call("sum", simulated.place(values, "in"), size, partial, ticket, out)
    assert out.item() == values.sum()


def arrivals(schedule: Schedule) -> list[int]:
    simulated = device("primitives")
    simulated.reset()
    simulated.set_schedule(schedule)
    ticket = simulated.place(torch.zeros(1, dtype=torch.int32), "ticket", writable=True)
    places = simulated.place(torch.zeros(8, dtype=torch.int32), "places", writable=True)
    simulated.call("arrivals", 8, ticket, places)
    return places.tolist()


def test_blocks_overtake_each_other():
    in_order = list(range(8))
    assert arrivals(Schedule()) == in_order
    assert arrivals(Schedule(resident_blocks=8)) == in_order
    seen = {
        tuple(arrivals(Schedule(order, seed, resident_blocks=8, shuffle_blocks=True)))
        for order in Order
        for seed in range(3)
    }
    assert all(sorted(places) == in_order for places in seen)
    assert len(seen) > 3


def test_shared_memory_starts_as_nan(simulated):
    out = simulated.place(torch.zeros(1), "out", writable=True)
    simulated.call("fresh", out)
    assert out.isnan().all()


@pytest.mark.parametrize(
    ("stride", "sectors", "passes"), [(1, 4, 1), (2, 8, 2), (8, 32, 8), (32, 32, 32), (33, 32, 1)]
)
def test_transactions_are_counted(simulated, stride, sectors, passes):
    data = simulated.place(torch.zeros(32 * stride), "data", writable=True)
    counted: list[Traffic] = []
    with simulated.counting(counted):
        simulated.call("strided", data, stride)
    assert counted[0].global_writes == (1, sectors, 4)
    assert counted[0].shared_writes == (1, passes, 1)
    assert counted[0].shared_reads == (1, passes, 1)


def test_too_much_shared_memory_is_refused(simulated):
    simulated.set_schedule(Schedule(shared_limit=1024))
    data = simulated.place(torch.zeros(32 * 9), "data", writable=True)
    with pytest.raises(KernelError, match="shared memory: 1152 bytes"):
        simulated.call("strided", data, 9)
