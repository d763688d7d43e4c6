"""Other libraries' kernels for the same work, each imported where it is used.

FlashAttention has no mask, so its rows see each other causally, which is as many bytes. The KV
move of sgl-kernel takes places in a flat cache, of which it is given those that our op would find.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bench.measure import Call
from bench.ops.case import Way
from bench.ops.inputs import ints

if TYPE_CHECKING:
    from bench.ops.attention import AttentionInputs
    from bench.ops.kv import CompactionInputs
    from bench.ops.sampling import Rows
    from bench.ops.verify import Trees

PAGE_SIZE = 16
SCRATCH_BYTES = 256 << 20


def _flash_attention(x: AttentionInputs) -> Call:
    from flash_attn import flash_attn_with_kvcache

    k, v = (keys.transpose(1, 2).contiguous() for keys in x.contiguous())
    lengths = ints(x.q.device, [x.length] * x.batch)
    return lambda: flash_attn_with_kvcache(x.q, k, v, cache_seqlens=lengths, causal=True)


def _flashinfer_single(x: AttentionInputs) -> Call:
    """Its prefill of one request, with a bit for each row and key."""
    import flashinfer

    if x.batch > 1:
        raise ValueError(f"one request, but there are {x.batch}")
    k, v = (keys[0].transpose(0, 1).contiguous() for keys in x.contiguous())
    bits = flashinfer.packbits(x.visible().flatten(), bitorder="little")
    return lambda: flashinfer.single_prefill_with_kv_cache(x.q[0], k, v, packed_custom_mask=bits)


def _flashinfer_mask(x: AttentionInputs) -> Call:
    """Its prefill over pages, with a bit for each row and key."""
    import flashinfer

    pages = -(-x.length // PAGE_SIZE)
    wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(_scratch(x), "NHD")
    wrapper.plan(
        _every(x, x.rows, x.batch),
        _every(x, pages, x.batch),
        _every(x, 1, x.batch * pages - 1),
        ints(x.q.device, [x.length - (pages - 1) * PAGE_SIZE] * x.batch),
        x.heads.num_qo_heads,
        x.heads.num_kv_heads,
        x.heads.head_dim,
        PAGE_SIZE,
        custom_mask=x.visible().flatten().repeat(x.batch),
        q_data_type=x.q.dtype,
    )
    q, cache = x.q.flatten(0, 1), _pages(x, x.batch * pages)
    return lambda: wrapper.run(q, cache)


def _flashinfer_cascade(x: AttentionInputs) -> Call:
    """Its cascade: the contexts as one level, a page for each branch as the next."""
    import flashinfer

    pages = -(-x.context // PAGE_SIZE)
    branches = x.batch * x.rows
    contexts = x.batch * pages
    wrapper = flashinfer.MultiLevelCascadeAttentionWrapper(2, _scratch(x), "NHD")
    wrapper.plan(
        [_every(x, x.rows, x.batch), _every(x, 1, branches)],
        [_every(x, pages, x.batch), _every(x, 1, branches)],
        [
            _every(x, 1, contexts - 1),
            ints(x.q.device, range(contexts, contexts + branches)),
        ],
        [
            ints(x.q.device, [x.context - (pages - 1) * PAGE_SIZE] * x.batch),
            ints(x.q.device, [1] * branches),
        ],
        x.heads.num_qo_heads,
        x.heads.num_kv_heads,
        x.heads.head_dim,
        PAGE_SIZE,
        q_data_type=x.q.dtype,
    )
    q, cache = x.q.flatten(0, 1), _pages(x, contexts + branches)
    return lambda: wrapper.run(q, cache)


def _every(x: AttentionInputs, step: int, count: int) -> Tensor:
    """int32 [count + 1]: 0, step, ..., count * step"""
    return ints(x.q.device, range(0, count * step + 1, step))


def _scratch(x: AttentionInputs) -> Tensor:
    return torch.empty(SCRATCH_BYTES, dtype=torch.uint8, device=x.q.device)


def _pages(x: AttentionInputs, count: int) -> Tensor:
    shape = (count, 2, PAGE_SIZE, x.heads.num_kv_heads, x.heads.head_dim)
    return torch.randn(shape, dtype=x.q.dtype, device=x.q.device)


ATTENTION_PEERS: tuple[Way[AttentionInputs], ...] = (
    Way("FlashAttention, causal", "library", _flash_attention, module="flash_attn"),
    Way("FlashInfer, single, mask", "library", _flashinfer_single, module="flashinfer"),
    Way("FlashInfer, paged, mask", "library", _flashinfer_mask, module="flashinfer"),
    Way("FlashInfer, cascade", "library", _flashinfer_cascade, module="flashinfer"),
)


def _sgl_move(x: CompactionInputs) -> Call:
    from sgl_kernel.kvcacheio import transfer_kv_all_layer

    source, destination = x.places()
    k, v = (
        torch.tensor([t.data_ptr() for t in caches], dtype=torch.uint64, device=x.table.device)
        for caches in (x.k_caches, x.v_caches)
    )
    token_bytes = x.k_caches[0][0, 0].nbytes
    layers = len(x.k_caches)
    return lambda: transfer_kv_all_layer(k, k, v, v, source, destination, token_bytes, layers)


COMPACTION_PEERS: tuple[Way[CompactionInputs], ...] = (
    Way("sgl-kernel, KV move", "library", _sgl_move, module="sgl_kernel"),
)


def _flashinfer_sample(x: Rows) -> Call:
    from flashinfer.sampling import sampling_from_logits, top_k_top_p_sampling_from_logits

    if not x.kept.top_k:
        return lambda: sampling_from_logits(x.logits.float())
    return lambda: top_k_top_p_sampling_from_logits(
        x.logits.float(), x.kept.top_k, x.kept.top_p, filter_apply_order="top_k_first"
    )


SAMPLE_PEERS: tuple[Way[Rows], ...] = (
    Way("FlashInfer, sampling", "library", _flashinfer_sample, module="flashinfer"),
)


def links(parents: list[int]) -> tuple[list[int], list[int]]:
    """The first child of each node and the sibling after it, -1 where there is none."""
    first, following = [-1] * len(parents), [-1] * len(parents)
    latest: dict[int, int] = {}
    for node, parent in enumerate(parents[1:], 1):
        if parent in latest:
            following[latest[parent]] = node
        else:
            first[parent] = node
        latest[parent] = node
    return first, following


def _sgl_walk(x: Trees) -> dict[str, Tensor]:
    """What both of sgl-kernel's walks take, by name; int64 but for the results."""
    batch, nodes = x.candidates.shape
    device = x.logits.device
    first, following = (torch.tensor(link, device=device) for link in links(x.parents))
    return {
        "predicts": ints(device, [0] * batch * nodes),
        "accept_index": ints(device, [[-1] * x.visited] * batch),
        "accept_token_num": ints(device, [0] * batch),
        "candidates": x.candidates.long(),
        "retrive_index": torch.arange(batch * nodes, device=device).reshape(batch, nodes),
        "retrive_next_token": first.repeat(batch, 1),
        "retrive_next_sibling": following.repeat(batch, 1),
    }


def _sgl_greedy(x: Trees) -> Call:
    from sgl_kernel import verify_tree_greedy

    walk = _sgl_walk(x)
    return lambda: verify_tree_greedy(**walk, target_predict=x.logits.argmax(-1))


def _sgl_sampling(x: Trees) -> Call:
    """A softmax, then the walk that knows the target's law alone.

    Some versions mark rejected tokens in a tensor that is to be zero at first.
    """
    from sgl_kernel import tree_speculative_sampling_target_only as walk_tree

    walk = _sgl_walk(x)
    batch, nodes = x.candidates.shape
    walk["uniform_samples"] = torch.rand(batch, nodes, device=x.logits.device)
    walk["uniform_samples_for_final_sampling"] = torch.rand(batch, device=x.logits.device)
    marks = {}
    if "draft_probs" in inspect.signature(walk_tree).parameters:
        marks["draft_probs"] = torch.empty_like(x.logits, dtype=torch.float32)

    def call() -> None:
        for mark in marks.values():
            mark.zero_()
        walk_tree(**walk, **marks, target_probs=x.logits.softmax(-1, dtype=torch.float32))

    return call


def _flashinfer_chain(x: Trees) -> Call:
    """A softmax of the main line's rows, then its chain of ratio tests."""
    from flashinfer.sampling import chain_speculative_sampling

    if x.visited < 2:
        raise ValueError("a chain of one guess at least")
    ids = x.candidates[:, 1 : x.visited].contiguous()
    laws = x.laws[:, : x.visited - 1].contiguous()
    logits = x.logits[:, : x.visited]
    return lambda: chain_speculative_sampling(laws, ids, logits.softmax(-1, dtype=torch.float32))


def verification_peers(coupling: str, memory: int) -> tuple[Way[Trees], ...]:
    """memory: bytes of the laws that sampling walks are given."""
    if coupling == "greedy":
        return (Way("sgl-kernel, greedy", "library", _sgl_greedy, module="sgl_kernel"),)
    sampling = Way("sgl-kernel, sampling", "library", _sgl_sampling, memory, "sgl_kernel")
    if coupling == "gumbel":
        return (sampling,)
    return (
        sampling,
        Way("FlashInfer, chain", "library", _flashinfer_chain, memory, "flashinfer"),
    )
