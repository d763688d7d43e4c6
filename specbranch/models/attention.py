"""Our attention inside transformers' models, through its attention and cache interfaces.

A forward gets one *attention pass*: it is the model's cache, which stores each layer's new keys and
values in the paged pool, and as the keyword argument `attention_pass` it reaches the attention
function, which reads them back. No mask function is registered under our name, so transformers
builds no mask: a pass knows what each row may see.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.cache_utils import Cache

from specbranch import ops
from specbranch.cache import PagedKVCache

ATTENTION_NAME = "specbranch"


class AttentionPass(Cache):
    """How the rows of one forward store their keys and values and attend to the pool.

    All layers keep all positions; a layer with a sliding window passes it when it attends.
    """

    def __init__(self, pool: PagedKVCache) -> None:
        super().__init__(layers=[])
        self._pool = pool
        self._stored: tuple[int, Tensor | None, Tensor | None] = (0, None, None)

    def store(
        self, layer: int, key: Tensor, value: Tensor, start: Tensor, row_indptr: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Write key and value [1, Hkv, T, D] to the pool and return them."""
        self._pool.append(
            layer, key[0].transpose(0, 1), value[0].transpose(0, 1), start, row_indptr
        )
        self._stored = layer, key, value
        return key, value

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
    """Nodes of a draft block: each row sees the whole context and its ancestors in the block."""

    def __init__(
        self,
        pool: PagedKVCache,
        *,
        context_lens: Tensor,
        start: Tensor,
        n_nodes: Tensor,
        row_indptr: Tensor,
        ancestor_mask: Tensor,
    ) -> None:
        """Keep the given tensors, so that a runner can refill them between forwards.

        pool: where keys and values live.
        context_lens: committed tokens, int32 [B].
        start: logical position of the first new node, int32 [B].
        n_nodes: nodes in the block, the new ones included, int32 [B].
        row_indptr: which rows are which request's, int32 [B + 1].
        ancestor_mask: one row a new node, int32 [T, W].
        """
        super().__init__(pool)
        self.context_lens = context_lens
        self.start = start
        self.n_nodes = n_nodes
        self.row_indptr = row_indptr
        self.ancestor_mask = ancestor_mask

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        return self.store(layer_idx, key_states, value_states, self.start, self.row_indptr)

    def attend(
        self, layer: int, query: Tensor, scale: float, softcap: float, window: int
    ) -> Tensor:
        out, _ = ops.branch_attention(
            query[0].transpose(0, 1),
            self._pool.k[layer],
            self._pool.v[layer],
            self._pool.block_table,
            self.context_lens,
            self.n_nodes,
            self.row_indptr,
            self.ancestor_mask,
            scale,
            softcap,
            window,
        )
        return out[None]


class PrefillPass(AttentionPass):
    """A chunk of prompt after `start` committed tokens, causal, through torch's SDPA.

    SDPA has no softcap: layers with one take `branch_attention` with the chunk as a chain.
    """

    def __init__(self, pool: PagedKVCache, start: int, n_tokens: int) -> None:
        super().__init__(pool)
        self._length = start + n_tokens
        device = pool.block_table.device
        self._start = torch.full((1,), start, dtype=torch.int32, device=device)
        self._row_indptr = n_tokens * torch.arange(2, dtype=torch.int32, device=device)
        rows = torch.arange(start, self._length, device=device)
        self._distance = rows[:, None] - torch.arange(self._length, device=device)
        self._visible: dict[int, Tensor] = {}
        self._chain: BlockPass | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        return self.store(layer_idx, key_states, value_states, self._start, self._row_indptr)

    def attend(
        self, layer: int, query: Tensor, scale: float, softcap: float, window: int
    ) -> Tensor:
        if softcap:
            return self._as_chain().attend(layer, query, scale, softcap, window)
        k, v = self._pool.gather(layer, self._length)
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
            causal = self._distance >= 0
            self._visible[window] = causal & (self._distance < window) if window else causal
        return self._visible[window]

    def _as_chain(self) -> BlockPass:
        if self._chain is None:
            n_tokens, _ = self._distance.shape
            parents = torch.arange(-1, n_tokens - 1, dtype=torch.int32, device=self._start.device)
            n_nodes = self._row_indptr[1:]
            ancestor_mask, _ = ops.tree_mask(parents[None], n_nodes, self._row_indptr, n_tokens)
            self._chain = BlockPass(
                self._pool,
                context_lens=self._start,
                start=self._start,
                n_nodes=n_nodes,
                row_indptr=self._row_indptr,
                ancestor_mask=ancestor_mask,
            )
        return self._chain


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

    Returns [1, T, Hq, D] and None (no attention weights). Raises ValueError if called outside a
    `ModelRunner`, with other keys or values, or if the layer has attention sinks.
    """
    if attention_pass is None:
        raise ValueError(
            f"attention '{ATTENTION_NAME}': expected a forward by specbranch's ModelRunner; "
            "to call the model itself, first call model.set_attn_implementation('sdpa')"
        )
    if s_aux is not None:
        raise ValueError(f"attention '{ATTENTION_NAME}': attention sinks are not supported")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    layer = attention_pass.layer_of(key, value)
    out = attention_pass.attend(layer, query, scale, softcap or 0.0, sliding_window or 0)
    return out, None


AttentionInterface.register(ATTENTION_NAME, specbranch_attention)
