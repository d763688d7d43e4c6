"""The floors that predictions rest on, against sums done by hand and against counted traffic."""

from __future__ import annotations

import pytest
import torch

from bench import floors, roofline
from bench.floors import Heads
from tests.ops.cases import int32, random_pages
from tests.simt.attention import Launch, make_case
from tests.simt.device import Schedule, Traffic, device
from tests.simt.params import CompactKvParams

SECTOR = 32
LLAMA = Heads(num_qo_heads=32, num_kv_heads=8, head_dim=128)


def test_floors_equal_sums_done_by_hand():
    attention = floors.branch_attention(LLAMA, batch=2, context=100, rows=3)
    assert attention.read_bytes == 2 * (103 * 2 * 8 * 128 * 2 + 3 * 32 * 128 * 2 + 3 * 4)
    assert attention.written_bytes == 2 * (3 * 32 * 128 * 2 + 3 * 32 * 4)
    assert attention.flops == 2 * (2 * 3 * 32 * 103 * 128 + 2 * 3 * 32 * 103 * 128)
    moved = floors.compact_kv(LLAMA, layers=32, batch=1, moved=4)
    assert moved.read_bytes == moved.written_bytes == 32 * 4 * 4096
    assert floors.append_kv(LLAMA, batch=3, tokens=5).floor_bytes == 2 * 3 * 5 * 4096
    assert floors.tree_mask(batch=1, nodes=33).floor_bytes == 34 * 4 + 33 * 2 * 4 + 33 * 4
    assert floors.sample(rows=8, vocab=1000).floor_bytes == 8 * 1000 * 2 + 8 * 4
    assert floors.draft_topk(rows=2, vocab=1000, k=4).written_bytes == 2 * 4 * 8 + 2 * 8
    assert floors.sampling_probs(rows=2, vocab=1000).floor_bytes == 2 * 1000 * (2 + 4)
    verified = {
        rejection: floors.verify_tree(
            batch=2, nodes=8, visited=3, vocab=1000, rejection=rejection
        ).read_bytes
        for rejection in (False, True)
    }
    assert verified == {False: 2 * (3 * 2000 + 64), True: 2 * (3 * 6000 + 64)}


def test_a_prediction_is_the_larger_of_two_times():
    a_second_of_copying = floors.Work(10**12, 10**12, flops=1)
    a_second_of_products = floors.Work(1, 1, flops=10**15)
    gpu_of_the_future = roofline.Device("X", bandwidth=2e12, flops=1e15)
    assert gpu_of_the_future.seconds(a_second_of_copying) == pytest.approx(1)
    assert gpu_of_the_future.seconds(a_second_of_products) == pytest.approx(1)


def test_attention_moves_little_more_than_its_floor():
    context, rows = 300, 8
    case = make_case(
        torch.bfloat16, contexts=(context,), nodes=(rows,), rows=(rows,), heads=(8, 2), head_dim=128
    )
    launch = Launch(case, num_multiprocessors=1)
    assert launch.max_splits == 1
    traffic = launch.count()
    work = floors.branch_attention(Heads(8, 2, 128), batch=1, context=context, rows=rows)
    read, written = (t.transactions * SECTOR for t in traffic[:2])
    assert work.read_bytes <= read < 1.05 * work.read_bytes
    assert work.written_bytes <= written < 1.05 * work.written_bytes


def test_compaction_moves_its_floor():
    layers, keep = 2, [3, 5, 6, 9]
    generator = torch.Generator().manual_seed(0)
    pages = random_pages([20], 16, generator)
    simulated = device("kv_cache")
    simulated.reset()
    simulated.set_schedule(Schedule())
    shape = (pages.n_pages, 16, 8, 128)
    caches = [
        simulated.place(torch.zeros(shape, dtype=torch.bfloat16), "cache", writable=True)
        for _ in range(2 * layers)
    ]
    tables = (pages.block_table, int32([10]), int32([keep]), int32([len(keep)]))
    params = CompactKvParams.of(
        caches[:layers], caches[layers:], *(simulated.place(t, "table") for t in tables)
    )
    counted: list[Traffic] = []
    with simulated.counting(counted):
        simulated.launch("compact_kv", params)
    work = floors.compact_kv(LLAMA, layers=layers, batch=1, moved=len(keep))
    assert counted[0].global_writes.transactions * SECTOR == work.written_bytes
    assert work.read_bytes <= counted[0].global_reads.transactions * SECTOR < 2 * work.read_bytes


def test_the_table_says_that_its_numbers_are_predictions(capsys):
    roofline.main(["--size", "smoke", "--op", "append_kv_"])
    printed = capsys.readouterr().out
    assert "PREDICTED" in printed
    assert "nothing measured" in printed
    work = floors.append_kv(Heads(12, 12, 64), batch=1, tokens=4)
    h200 = next(device for device in roofline.DEVICES if device.name == "H200")
    assert f"{1e6 * h200.seconds(work):.2f}" in printed
