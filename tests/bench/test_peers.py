"""How other libraries are called, checked against stand-ins with their signatures.

Each stand-in computes what its original does from the arguments that it is given, in plain torch,
so that a wrong layout or index shows as a wrong result.
"""

from __future__ import annotations

import importlib.util
import sys
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from bench.floors import Heads
from bench.models import Model
from bench.ops.attention import attention
from bench.ops.case import OURS, Case
from bench.ops.kv import compact_kv
from bench.ops.laws import COMMON_FILTER, NO_FILTER
from bench.ops.run import absent_from
from bench.ops.sampling import sample
from bench.ops.verify import links, verify_tree
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


def test_flashinfer_attends_under_a_mask_of_bits(monkeypatch):
    def packbits(x, bitorder):
        assert bitorder == "little"
        x = F.pad(x.int(), (0, -len(x) % 8)).reshape(-1, 8)
        return (x << torch.arange(8)).sum(1).to(torch.uint8)

    def single_prefill_with_kv_cache(q, k, v, *, packed_custom_mask):
        bits = (packed_custom_mask[:, None] >> torch.arange(8)) & 1
        mask = bits.flatten()[: len(q) * len(k)].reshape(len(q), len(k)).bool()
        q, k, v = (x.transpose(0, 1) for x in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
        return out.transpose(0, 1)

    install(
        monkeypatch,
        "flashinfer",
        packbits=packbits,
        single_prefill_with_kv_cache=single_prefill_with_kv_cache,
    )
    ours, theirs = both(attention(SMALL, FP32, 1, 70, 3), "FlashInfer, single, mask")
    torch.testing.assert_close(theirs, ours[0], rtol=1e-4, atol=1e-5)
    several = attention(SMALL, FP32, 2, 70, 3)
    with pytest.raises(ValueError, match="one request, but there are 2"):
        both(several, "FlashInfer, single, mask")


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


def test_sgl_kernel_moves_the_same_entries(monkeypatch):
    case = compact_kv(SMALL, FP32, 2, 4)
    inputs = case.inputs(CPU)
    by_address = {t.data_ptr(): t.flatten(0, 1) for t in (*inputs.k_caches, *inputs.v_caches)}

    def transfer_kv_all_layer(
        src_k, dst_k, src_v, dst_v, src_indices, dst_indices, item_size, num_layers
    ):
        assert item_size == 2 * 64 * 4
        assert num_layers == len(src_k) == 3
        assert torch.equal(src_k, dst_k)
        assert torch.equal(src_v, dst_v)
        for address in (*src_k.tolist(), *src_v.tolist()):
            by_address[address][dst_indices] = by_address[address][src_indices]

    install(monkeypatch, "sgl_kernel.kvcacheio", transfer_kv_all_layer=transfer_kv_all_layer)
    before = [t.clone() for t in (*inputs.k_caches, *inputs.v_caches)]
    peer_of(case, "sgl-kernel, KV move").make(inputs)()
    theirs = [t.clone() for t in (*inputs.k_caches, *inputs.v_caches)]
    for tensor, old in zip((*inputs.k_caches, *inputs.v_caches), before, strict=True):
        tensor.copy_(old)
    peer_of(case, OURS).make(inputs)()
    assert all(map(torch.equal, theirs, (*inputs.k_caches, *inputs.v_caches)))


def test_links_are_first_children_and_next_siblings():
    assert links([-1, 0, 1, 0, 1, 0]) == ([1, 2, -1, -1, -1, -1], [-1, 3, 4, 5, -1, -1])


def walk(candidates, first, following, predictions) -> list[list[int]]:
    """Of each tree, the nodes on the path of what its rows predict."""
    paths = []
    for tokens, child_of, sibling_of, chosen in zip(
        candidates.tolist(), first.tolist(), following.tolist(), predictions.tolist(), strict=True
    ):
        path = [0]
        node = child_of[0]
        while node != -1:
            if tokens[node] == chosen[path[-1]]:
                path.append(node)
                node = child_of[node]
            else:
                node = sibling_of[node]
        paths.append(path)
    return paths


def test_sgl_kernel_walks_the_same_greedy_path(monkeypatch):
    def verify_tree_greedy(
        predicts,
        accept_index,
        accept_token_num,
        candidates,
        retrive_index,
        retrive_next_token,
        retrive_next_sibling,
        target_predict,
    ):
        assert retrive_index.flatten().tolist() == list(range(len(predicts)))
        assert candidates.dtype == retrive_next_token.dtype == target_predict.dtype == torch.int64
        assert accept_index.shape == (2, 4)
        accept_token_num.zero_()
        return walk(candidates, retrive_next_token, retrive_next_sibling, target_predict)

    install(monkeypatch, "sgl_kernel", verify_tree_greedy=verify_tree_greedy)
    (path_len, _), paths = both(verify_tree("greedy", SMALL, FP32, 2, 20, 4), "sgl-kernel, greedy")
    assert paths == [[0, 1, 2, 3]] * 2
    assert path_len.tolist() == [4, 4]


@pytest.mark.parametrize("coupling", ["gumbel", "rejection"])
def test_sgl_kernel_is_given_laws_of_every_row(monkeypatch, coupling):
    given = []

    def with_marks(*, draft_probs, target_probs, candidates, uniform_samples, **rest):
        assert not draft_probs.any()
        draft_probs += 1
        given.append((target_probs, candidates, uniform_samples))

    def without_marks(*, target_probs, candidates, uniform_samples, **rest):
        given.append((target_probs, candidates, uniform_samples))

    case = verify_tree(coupling, SMALL, FP32, 2, 6, 3)
    inputs = case.inputs(CPU)
    for version in (with_marks, without_marks):
        install(monkeypatch, "sgl_kernel", tree_speculative_sampling_target_only=version)
        call = peer_of(case, "sgl-kernel, sampling").make(inputs)
        call()
        call()
    assert len(given) == 4
    for laws, candidates, uniform in given:
        assert laws.shape == (2, 6, 500)
        torch.testing.assert_close(laws.sum(-1), torch.ones(2, 6))
        assert candidates.shape == uniform.shape == (2, 6)


def test_flashinfer_tests_the_main_line(monkeypatch):
    def chain_speculative_sampling(draft_probs, draft_token_ids, target_probs):
        assert draft_probs.shape == (2, 3, 500)
        assert target_probs.shape == (2, 4, 500)
        picked = draft_token_ids[..., None].long()
        p, q = (laws[:, :3].gather(2, picked) for laws in (target_probs, draft_probs))
        return (p / q)[..., 0]

    install(
        monkeypatch, "flashinfer.sampling", chain_speculative_sampling=chain_speculative_sampling
    )
    _, ratio = both(verify_tree("rejection", SMALL, FP32, 2, 6, 4), "FlashInfer, chain")
    torch.testing.assert_close(ratio, torch.ones(2, 3), rtol=1e-3, atol=0)


@pytest.mark.parametrize("kept", [NO_FILTER, COMMON_FILTER])
def test_flashinfer_samples_under_the_same_filter(monkeypatch, kept):
    install(
        monkeypatch,
        "flashinfer.sampling",
        sampling_from_logits=lambda logits: (0, 1.0, logits.shape),
        top_k_top_p_sampling_from_logits=lambda logits, k, p, filter_apply_order: (
            (k, p, logits.shape) if filter_apply_order == "top_k_first" else None
        ),
    )
    _, theirs = both(sample(SMALL, FP32, 3, kept), "FlashInfer, sampling")
    assert theirs == (kept.top_k, kept.top_p, (3, 500))


def test_what_is_not_installed_is_absent_on_a_gpu(monkeypatch):
    found = {"flashinfer": object(), "flash_attn": None}
    monkeypatch.setattr(importlib.util, "find_spec", found.get)
    absent = absent_from([attention(SMALL, FP32, 1, 70, 2)], torch.device("cuda"))
    assert absent == {"FlashAttention, causal": "flash_attn is not installed"}
