"""How many transactions the kernels make of their accesses, at sizes of real models."""

from __future__ import annotations

import pytest
import torch

from tests.ops.cases import int32
from tests.simt.device import Schedule, Traffic, device
from tests.simt.params import AppendKvParams, CompactKvParams, TreeMaskParams

HEADS, HEAD_DIM, PAGE_SIZE = 8, 128, 16


def count(family: str, op: str, place_params) -> Traffic:
    simulated = device(family)
    simulated.reset()
    simulated.set_schedule(Schedule())
    params = place_params(simulated.place)
    counted: list[Traffic] = []
    with simulated.counting(counted):
        simulated.launch(op, params)
    return counted[0]


def random_cache() -> torch.Tensor:
    return torch.randn(8, PAGE_SIZE, HEADS, HEAD_DIM).to(torch.bfloat16)


def count_append(kernel: str, tokens: int) -> Traffic:
    table = int32([[3, 1, 7, 2]])

    def place_params(place):
        new = [torch.randn(tokens, HEADS, HEAD_DIM).to(torch.bfloat16) for _ in range(2)]
        return AppendKvParams.of(
            *(place(t, "new") for t in new),
            *(place(random_cache(), "cache", writable=True) for _ in range(2)),
            place(table, "block_table"),
            place(int32([30]), "start"),
            place(int32([0, tokens]), "row_indptr"),
        )

    return count("kv_cache", kernel, place_params)


def assert_whole_sectors_are_appended(traffic: Traffic, tokens: int) -> None:
    data_sectors = 2 * tokens * HEADS * HEAD_DIM * 2 // 32
    assert traffic.global_writes.transactions == traffic.global_writes.ideal == data_sectors
    assert traffic.global_reads.excess == 1
    assert traffic.global_reads.transactions < 1.5 * data_sectors


def test_append_kv_moves_whole_sectors(report_traffic):
    traffic = count_append("append_kv", tokens=5)
    report_traffic("append_kv_", traffic)
    assert_whole_sectors_are_appended(traffic, tokens=5)


def test_the_limit_on_sectors_is_tripped_by_scattered_columns():
    traffic = count_append("scattered_append", tokens=5)
    with pytest.raises(AssertionError):
        assert_whole_sectors_are_appended(traffic, tokens=5)
    assert traffic.global_writes.excess == 2


def test_compact_kv_moves_whole_sectors(report_traffic):
    keep, layers = [0, 2, 3, 7], 2

    def place_params(place):
        caches = [place(random_cache(), "cache", writable=True) for _ in range(2 * layers)]
        return CompactKvParams.of(
            caches[:layers],
            caches[layers:],
            place(int32([[3, 1, 7, 2]]), "block_table"),
            place(int32([30]), "context_lens"),
            place(int32([keep]), "keep"),
            place(int32([len(keep)]), "keep_lens"),
        )

    traffic = count("kv_cache", "compact_kv", place_params)
    report_traffic("compact_kv_", traffic)
    moved = sum(node != place for place, node in enumerate(keep))
    data_sectors = 2 * layers * moved * HEADS * HEAD_DIM * 2 // 32
    assert traffic.global_writes.transactions == traffic.global_writes.ideal == data_sectors
    assert traffic.global_reads.excess == 1
    assert traffic.global_reads.transactions < 2 * data_sectors


def test_tree_mask_writes_few_sectors(report_traffic):
    nodes, words = 64, 2
    parents = (torch.arange(nodes, dtype=torch.int32) - 1) // 2
    parents[0] = -1

    def place_params(place):
        return TreeMaskParams.of(
            place(parents[None], "parents"),
            place(int32([nodes]), "n_nodes"),
            place(int32([0, nodes]), "row_indptr"),
            place(torch.zeros(nodes, words, dtype=torch.int32), "mask", writable=True),
            place(torch.zeros(nodes, dtype=torch.int32), "depth", writable=True),
        )

    traffic = count("tree_mask", "tree_mask", place_params)
    report_traffic("tree_mask", traffic)
    # A row's words are written one by one: each of its sectors twice.
    assert traffic.global_writes.excess <= words
