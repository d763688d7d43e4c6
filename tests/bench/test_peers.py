"""How other libraries are called, checked against stand-ins with their signatures.

Each stand-in computes what its original does from the arguments that it is given, in plain torch,
so that a wrong layout or index shows as a wrong result.
"""

from __future__ import annotations

import importlib.util
import sys
from types import SimpleNamespace

import torch
import torch.nn.functional as F

from bench.floors import Heads
from bench.models import Model
from bench.ops.attention import attention
from bench.ops.case import OURS, Case
from bench.ops.run import absent_from
from tests.threads import one_thread

__all__ = ["one_thread"]

CPU = torch.device("cpu")
FP32 = torch.float32
SMALL = Model("small", Heads(4, 2, 64), layers=3, vocab=500, ffn=512)


def install(monkeypatch, name: str, **functions: object) -> None:
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(**functions))


def peer_of(case: Case, name: str) -> object:
    return next(way for way in case.ways if way.name == name)


def both(case: Case, name: str) -> tuple[object, object]:
    """Results of ours and of a peer on the same inputs."""
    inputs = case.inputs(CPU)
    return peer_of(case, OURS).make(inputs)(), peer_of(case, name).make(inputs)()


def test_flash_attention_sees_all_keys(monkeypatch):
    def flash_attn_with_kvcache(q, k_cache, v_cache, *, cache_seqlens, causal):
        assert causal
        assert cache_seqlens.tolist() == [k_cache.shape[1]] * len(q)
        q, k, v = (x.transpose(1, 2) for x in (q, k_cache, v_cache))
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True).transpose(1, 2)

    install(monkeypatch, "flash_attn", flash_attn_with_kvcache=flash_attn_with_kvcache)
    ours, theirs = both(attention(SMALL, FP32, 2, 70, 1), "FlashAttention, causal")
    torch.testing.assert_close(theirs, ours)


class Planned:
    """Remembers its plan; a run gives back what it was given."""

    def __init__(self, *arguments: object) -> None:
        self.made_of = arguments

    def plan(self, *arguments: object, **named: object) -> None:
        self.plan_of = arguments, named

    def run(self, q: torch.Tensor, cache: torch.Tensor) -> tuple[object, ...]:
        return self.made_of, *self.plan_of, q, cache


def test_flashinfer_is_planned_over_pages(monkeypatch):
    install(monkeypatch, "flashinfer", BatchPrefillWithPagedKVCacheWrapper=Planned)
    _, theirs = both(attention(SMALL, FP32, 2, 70, 3), "FlashInfer, paged, mask")
    _, (rows, pages, indices, last, *heads), named, q, cache = theirs
    assert rows.tolist() == [0, 3, 6]
    assert pages.tolist() == [0, 5, 10]
    assert indices.tolist() == list(range(10))
    assert last.tolist() == [73 - 4 * 16] * 2
    assert heads == [4, 2, 64, 16]
    assert named["custom_mask"].shape == (2 * 3 * 73,)
    assert q.shape == (6, 4, 64)
    assert cache.shape == (10, 2, 16, 2, 64)


def test_flashinfer_cascades_from_contexts_to_branches(monkeypatch):
    install(monkeypatch, "flashinfer", MultiLevelCascadeAttentionWrapper=Planned)
    _, theirs = both(attention(SMALL, FP32, 2, 70, 3), "FlashInfer, cascade")
    (levels, *_), (rows, pages, indices, last, *heads), _, _, cache = theirs
    assert levels == 2
    assert [level.tolist() for level in rows] == [[0, 3, 6], list(range(7))]
    assert [level.tolist() for level in pages] == [[0, 5, 10], list(range(7))]
    assert [level.tolist() for level in indices] == [list(range(10)), list(range(10, 16))]
    assert [level.tolist() for level in last] == [[6, 6], [1] * 6]
    assert heads == [4, 2, 64, 16]
    assert len(cache) == 16


def test_what_is_not_installed_is_absent_on_a_gpu(monkeypatch):
    found = {"flashinfer": object(), "flash_attn": None}
    monkeypatch.setattr(importlib.util, "find_spec", found.get)
    absent = absent_from([attention(SMALL, FP32, 1, 70, 2)], torch.device("cuda"))
    assert absent == {"FlashAttention, causal": "flash_attn is not installed"}
