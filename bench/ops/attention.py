"""`branch_attention`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bench import floors
from bench.floors import Heads
from bench.measure import Call
from bench.models import Model
from bench.ops.case import EAGER, EXPANDED, OURS, Case, Way
from bench.ops.inputs import block_table, cache, cache_bytes, ints, rows_of_each, workspace
from specbranch import ops

PACKED = "SDPA, packed and masked"
PEER_PAGE = 16
SCRATCH_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class AttentionInputs:
    """One row a branch over a shared context: row i sees the context and node i.

    q [B, Q, Hq, D]; caches [P, S, Hkv, D]; table [B, M]; context: tokens of each request.
    """

    heads: Heads
    context: int
    q: Tensor
    k_cache: Tensor
    v_cache: Tensor
    table: Tensor

    @property
    def batch(self) -> int:
        return self.q.shape[0]

    @property
    def rows(self) -> int:
        return self.q.shape[1]

    @property
    def length(self) -> int:
        """Keys of a request."""
        return self.context + self.rows

    def contiguous(self) -> tuple[Tensor, Tensor]:
        """Keys and values [B, Hkv, length, D] as engines without pages hold them."""
        k, v = (
            cache[self.table.long()].flatten(1, 2)[:, : self.length].transpose(1, 2).contiguous()
            for cache in (self.k_cache, self.v_cache)
        )
        return k, v

    def visible(self) -> Tensor:
        """bool [Q, length]"""
        seen = torch.ones(self.rows, self.length, dtype=torch.bool, device=self.q.device)
        seen[:, self.context :] = torch.eye(self.rows, dtype=torch.bool, device=self.q.device)
        return seen


def own_bits(rows: int, device: torch.device) -> Tensor:
    """int32 [Q, W]: of row i, bit i."""
    nodes = torch.arange(rows)
    mask = torch.zeros(rows, floors.words(rows), dtype=torch.int32)
    mask[nodes, nodes // 32] = (1 << nodes % 32).to(torch.int32)
    return mask.to(device)


def attention(model: Model, dtype: torch.dtype, batch: int, context: int, branches: int) -> Case:
    heads = model.heads_of(dtype)
    length = context + branches
    group = heads.num_qo_heads // heads.num_kv_heads
    keys_bytes = batch * length * heads.token_bytes

    def inputs(device: torch.device) -> AttentionInputs:
        table = block_table(device, batch, length)
        shape = (batch, branches, heads.num_qo_heads, heads.head_dim)
        q = torch.randn(shape, dtype=dtype, device=device)
        k_cache, v_cache = cache(table, heads, dtype), cache(table, heads, dtype)
        return AttentionInputs(heads, context, q, k_cache, v_cache, table)

    scores_bytes = 3 * 4 * batch * branches * heads.num_qo_heads * length
    return Case(
        op="branch_attention",
        model=model.name,
        params={"batch": batch, "branches": branches, "context": context},
        dtype=dtype,
        work=floors.branch_attention(heads, batch=batch, context=context, rows=branches),
        memory=cache_bytes(heads, batch, length),
        inputs=inputs,
        ways=(
            Way(OURS, "ours", _ours),
            Way(EAGER, "eager", _eager, keys_bytes + scores_bytes),
            Way(EXPANDED, "library", _expanded, (branches * group + 1) * keys_bytes),
            Way(PACKED, "library", _packed, keys_bytes + scores_bytes),
            Way("FlashAttention, causal", "library", _flash_attention, module="flash_attn"),
            Way("FlashInfer, paged, mask", "library", _flashinfer_mask, module="flashinfer"),
            Way("FlashInfer, cascade", "library", _flashinfer_cascade, module="flashinfer"),
        ),
    )


def _ours(x: AttentionInputs) -> Call:
    device = x.q.device
    q = x.q.flatten(0, 1)
    context_lens, n_nodes = (ints(device, [n] * x.batch) for n in (x.context, x.rows))
    row_indptr = rows_of_each(device, x.batch, x.rows)
    mask = own_bits(x.rows, device).repeat(x.batch, 1)
    inputs = (q, x.k_cache, x.v_cache, x.table, context_lens, n_nodes, row_indptr, mask)
    out, lse = torch.empty_like(q), torch.empty(q.shape[:2], device=device)
    scale, scratch = x.heads.head_dim**-0.5, workspace(device)

    def call() -> Tensor:
        ops.branch_attention_out(*inputs, scale, 0.0, 0, 0, out, lse, scratch)
        return out.view_as(x.q)

    return call


def _eager(x: AttentionInputs) -> Call:
    """Two products and a softmax, the query heads of a KV head together."""
    k, v = x.contiguous()
    grouped = (x.batch, x.rows, x.heads.num_kv_heads, -1, x.heads.head_dim)
    q = x.q.reshape(grouped).permute(0, 2, 3, 1, 4)
    hidden = ~x.visible()
    scale = x.heads.head_dim**-0.5

    def call() -> Tensor:
        scores = q.flatten(2, 3) @ k.transpose(2, 3) * scale
        by_row = scores.unflatten(2, q.shape[2:4]).masked_fill(hidden, -math.inf)
        out = by_row.softmax(-1).flatten(2, 3) @ v
        return out.unflatten(2, q.shape[2:4]).permute(0, 3, 1, 2, 4).reshape(x.q.shape)

    return call


def _expanded(x: AttentionInputs) -> Call:
    """Every branch with a context of its own, every query head with keys of its own."""
    context, rows = x.context, x.rows
    group = x.heads.num_qo_heads // x.heads.num_kv_heads

    def expand(keys: Tensor) -> Tensor:
        """[B * Q, Hq, context + 1, D]"""
        own = keys.new_empty(x.batch, rows, x.heads.num_kv_heads, group, context + 1, keys.shape[3])
        own[..., :context, :] = keys[:, None, :, None, :context]
        own[..., context, :] = keys[:, :, context:].transpose(1, 2)[:, :, :, None]
        return own.flatten(2, 3).flatten(0, 1)

    k, v = map(expand, x.contiguous())
    q = x.q.flatten(0, 1)[:, :, None]
    return lambda: F.scaled_dot_product_attention(q, k, v).reshape(x.q.shape)


def _packed(x: AttentionInputs) -> Call:
    """All branches as rows of one call, with a mask over the whole context."""
    k, v = x.contiguous()
    q, visible = x.q.transpose(1, 2), x.visible()
    return lambda: F.scaled_dot_product_attention(
        q, k, v, attn_mask=visible, enable_gqa=True
    ).transpose(1, 2)


def _flash_attention(x: AttentionInputs) -> Call:
    """It has no mask, so its rows see each other causally, which is as many bytes."""
    from flash_attn import flash_attn_with_kvcache

    k, v = (keys.transpose(1, 2).contiguous() for keys in x.contiguous())
    lengths = ints(x.q.device, [x.length] * x.batch)
    return lambda: flash_attn_with_kvcache(x.q, k, v, cache_seqlens=lengths, causal=True)


def _flashinfer_mask(x: AttentionInputs) -> Call:
    """Its prefill over pages, with a bit for each row and key."""
    import flashinfer

    pages = -(-x.length // PEER_PAGE)
    wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(_scratch(x), "NHD")
    wrapper.plan(
        _every(x, x.rows, x.batch),
        _every(x, pages, x.batch),
        _every(x, 1, x.batch * pages - 1),
        ints(x.q.device, [x.length - (pages - 1) * PEER_PAGE] * x.batch),
        x.heads.num_qo_heads,
        x.heads.num_kv_heads,
        x.heads.head_dim,
        PEER_PAGE,
        custom_mask=x.visible().flatten().repeat(x.batch),
        q_data_type=x.q.dtype,
    )
    q, cache = x.q.flatten(0, 1), _pages(x, x.batch * pages)
    return lambda: wrapper.run(q, cache)


def _flashinfer_cascade(x: AttentionInputs) -> Call:
    """Its cascade: the contexts as one level, a page for each branch as the next."""
    import flashinfer

    pages = -(-x.context // PEER_PAGE)
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
            ints(x.q.device, [x.context - (pages - 1) * PEER_PAGE] * x.batch),
            ints(x.q.device, [1] * branches),
        ],
        x.heads.num_qo_heads,
        x.heads.num_kv_heads,
        x.heads.head_dim,
        PEER_PAGE,
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
    shape = (count, 2, PEER_PAGE, x.heads.num_kv_heads, x.heads.head_dim)
    return torch.randn(shape, dtype=x.q.dtype, device=x.q.device)
