"""Our attention inside transformers' models, through its attention and cache interfaces.

A forward gets one *attention pass*: it is the model's cache, which stores each layer's new keys and
values in the paged pool, and as the keyword argument `attention_pass` it reaches the attention
function, which reads them back. No mask function is registered under our name, so transformers
builds no mask: a pass knows what each row may see.
"""

from __future__ import annotations

from abc import abstractmethod
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.bias import causal_lower_right
from transformers import AttentionInterface
from transformers.cache_utils import Cache

from specbranch import ops
from specbranch.models.kv_pool import KVPool

ATTENTION_NAME = "specbranch"
GPU_BACKENDS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


class AttentionPass(Cache):
    """How the T rows of one forward, of B requests, store their keys and values and attend.

    All layers keep all positions; a layer with a sliding window passes it when it attends.

    pool: where keys and values live. block_table: int32 [B, M].
    start: logical position of each request's first new key, int32 [B].
    row_indptr: int32 [B + 1], where each request's rows begin.
    """

    def __init__(
        self, pool: KVPool, *, block_table: Tensor, start: Tensor, row_indptr: Tensor
    ) -> None:
        super().__init__(layers=[])
        self.pool = pool
        self.block_table = block_table
        self.start = start
        self.row_indptr = row_indptr
        self._stored: tuple[int, Tensor | None, Tensor | None] = (0, None, None)

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write key and value [1, Hkv, T, D] to the pool and return them."""
        ops.append_kv_(
            _rows(key_states),
            _rows(value_states),
            self.pool.k[layer_idx],
            self.pool.v[layer_idx],
            self.block_table,
            self.start,
            self.row_indptr,
        )
        self._stored = layer_idx, key_states, value_states
        return key_states, value_states

    def layer_of(self, key: Tensor, value: Tensor) -> int:
        """The layer that just stored these.

        Raises ValueError for others: a model may change them after the cache has seen them.
        """
        layer, *stored = self._stored
        if key is not stored[0] or value is not stored[1]:
            raise ValueError(
                f"attention '{ATTENTION_NAME}': expected the keys and values that the cache "
                "returned, got others: this architecture is not supported"
            )
        return layer

    @abstractmethod
    def attend(
        self, layer: int, query: Tensor, scale: float, softcap: float, window: int
    ) -> Tensor:
        """Attend with query [1, Hq, T, D]. Returns [1, T, Hq, D]."""


class BlockPass(AttentionPass):
    """Nodes of draft blocks: each row sees its request's whole context and its own ancestors.

    Keeps the given tensors, which may be refilled between forwards.

    context_lens: committed tokens, int32 [B].
    n_nodes: nodes of each block, the new ones included, int32 [B].
    ancestor_mask: int32 [T, W].
    workspace: of `branch_attention_out`, None to allocate one a layer.
    """

    def __init__(
        self,
        pool: KVPool,
        *,
        block_table: Tensor,
        context_lens: Tensor,
        start: Tensor,
        n_nodes: Tensor,
        row_indptr: Tensor,
        ancestor_mask: Tensor,
        workspace: Tensor | None = None,
    ) -> None:
        super().__init__(pool, block_table=block_table, start=start, row_indptr=row_indptr)
        self._workspace = workspace
        self.context_lens = context_lens
        self.n_nodes = n_nodes
        self.ancestor_mask = ancestor_mask

    def attend(
        self, layer: int, query: Tensor, scale: float, softcap: float, window: int
    ) -> Tensor:
        rows = _rows(query)
        out = torch.empty_like(rows, memory_format=torch.contiguous_format)
        ops.branch_attention_out(
            rows,
            self.pool.k[layer],
            self.pool.v[layer],
            self.block_table,
            self.context_lens,
            self.n_nodes,
            self.row_indptr,
            self.ancestor_mask,
            scale,
            softcap,
            window,
            0,
            out,
            out.new_empty(out.shape[:2], dtype=torch.float32),
            self._workspace,
        )
        return out[None]


class PrefillPass(AttentionPass):
    """A chunk of one request's prompt after its context, causal, through torch's SDPA.

    SDPA has no softcap: layers with one take `branch_attention` with the chunk as a chain. On a GPU
    cuDNN's attention is left out, which plans anew, a good part of a second, for each length of a
    prompt; without a window no mask is made, so that flash attention can take it.
    """

    def __init__(self, pool: KVPool, block_table: Tensor, context_len: int, n_tokens: int) -> None:
        """block_table: int32 [1, M]. context_len: tokens before the chunk of n_tokens."""
        self._length = context_len + n_tokens
        self._n_tokens = n_tokens
        super().__init__(
            pool,
            block_table=block_table,
            start=block_table.new_tensor([context_len]),
            row_indptr=block_table.new_tensor([0, n_tokens]),
        )
        self._visible: dict[int, Tensor] = {}
        self._chain: BlockPass | None = None

    def attend(
        self, layer: int, query: Tensor, scale: float, softcap: float, window: int
    ) -> Tensor:
        if softcap:
            return self._as_chain().attend(layer, query, scale, softcap, window)
        k, v = self.pool.gather(layer, self.block_table, self._length)
        with sdpa_kernel(GPU_BACKENDS) if on_gpu(k) else nullcontext():
            out = F.scaled_dot_product_attention(
                query,
                k.transpose(1, 2),
                v.transpose(1, 2),
                attn_mask=self._visible_keys(window),
                scale=scale,
                enable_gqa=True,
            )
        return out.transpose(1, 2)

    def _visible_keys(self, window: int) -> Tensor:
        """Bool [T, length]: causal, and nearer than the window if there is one."""
        if window not in self._visible:
            self._visible[window] = self._mask(window)
        return self._visible[window]

    def _mask(self, window: int) -> Tensor:
        device = self.start.device
        if on_gpu(self.start) and not window:
            return causal_lower_right(self._n_tokens, self._length)
        rows = torch.arange(self._length - self._n_tokens, self._length, device=device)
        distance = rows[:, None] - torch.arange(self._length, device=device)
        causal = distance >= 0
        return causal & (distance < window) if window else causal

    def _as_chain(self) -> BlockPass:
        if self._chain is None:
            n_nodes = self.row_indptr[1:]
            parents = torch.arange(
                -1, self._n_tokens - 1, dtype=torch.int32, device=self.start.device
            )
            ancestor_mask, _ = ops.tree_mask(
                parents[None], n_nodes, self.row_indptr, self._n_tokens
            )
            self._chain = BlockPass(
                self.pool,
                block_table=self.block_table,
                context_lens=self.start,
                start=self.start,
                n_nodes=n_nodes,
                row_indptr=self.row_indptr,
                ancestor_mask=ancestor_mask,
            )
        return self._chain


def on_gpu(tensor: Tensor) -> bool:
    return tensor.is_cuda


def attention_workspace(pool: KVPool) -> Tensor | None:
    """Memory for the attention over a pool by all forwards of one stream; none on a CPU, where its
    size goes by their shapes."""
    keys = pool.k[0]
    if not on_gpu(keys):
        return None
    device = torch.cuda.get_device_properties(keys.device)
    size = ops.branch_attention_workspace_size(keys.shape[-1], device.multi_processor_count)
    return torch.zeros(size, dtype=torch.float32, device=keys.device)


def _rows(heads: Tensor) -> Tensor:
    """[T, H, D] of [1, H, T, D]."""
    return heads[0].transpose(0, 1)


def specbranch_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    sliding_window: int | None = None,
    attention_pass: AttentionPass | None = None,
    s_aux: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The attention function that transformers calls for each layer of a model run by us.

    query: [1, Hq, T, D].
    key, value: as the pass returned them when it stored them.
    scaling: factor of the scores, `D ** -0.5` by default.
    softcap, sliding_window: the layer's own, None for none.

    attention_mask: None; transformers builds no mask for us.

    Returns [1, T, Hq, D] and None (no attention weights). Raises ValueError if called outside a
    `ModelRunner`, with other keys or values, or if the layer has attention sinks or a mask that the
    model made itself.
    """
    if attention_pass is None:
        raise ValueError(
            f"attention '{ATTENTION_NAME}': expected a forward by specbranch's ModelRunner; "
            "to call the model itself, first call model.set_attn_implementation('sdpa')"
        )
    if attention_mask is not None:
        raise ValueError(
            f"attention '{ATTENTION_NAME}': {type(module).__name__} builds a mask of its own: this "
            "architecture is not supported"
        )
    if s_aux is not None:
        raise ValueError(f"attention '{ATTENTION_NAME}': attention sinks are not supported")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    layer = attention_pass.layer_of(key, value)
    out = attention_pass.attend(layer, query, scale, softcap or 0.0, sliding_window or 0)
    return out, None


AttentionInterface.register(ATTENTION_NAME, specbranch_attention)
