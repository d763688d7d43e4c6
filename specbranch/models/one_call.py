"""The whole forward of a model as one call into C++, which holds no interpreter lock.

Two models that run at the same time in one process share that lock, and a forward of 30 layers by
transformers makes a thousand short calls that each give it up and want it back.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from specbranch import _C
from specbranch.models.block_forward import BlockForward, BlockInputs
from specbranch.models.kv_pool import KVPool
from specbranch.models.parts import Product, Table
from specbranch.models.skeleton import Norm, Skeleton, skeleton_of

READ_ROWS = 128  # of a prompt at once: its attention takes longer within a block than before it


def in_one_call(forward: BlockForward, positions: int) -> OneCall | None:
    """What `forward` does, or None if its model is not of the common skeleton.

    positions: how many a text can have. What is put on the model later is not seen, but for new
    values in tensors that are not packed.
    """
    decoder = decoder_of(forward.model, forward.pool, positions)
    return None if decoder is None else OneCall(decoder, forward)


def decoder_of(model: PreTrainedModel, pool: KVPool, positions: int) -> _C.Decoder | None:
    """The model's forward over nodes of blocks in `pool`, or None if it is not of the skeleton, or
    has linear layers that are no `Product`s. The decoder shares the model's tensors."""
    skeleton = skeleton_of(model, positions, lambda module: isinstance(module, Product | Table))
    if skeleton is None or pool.k[0].device.type != "cpu":
        return None
    return _C.Decoder(
        embedding=skeleton.embedding,
        embedding_scale=skeleton.embedding_scale,
        layers=_layers(skeleton, pool),
        norm=_norm(skeleton.norm),
        head=skeleton.head.product(model.dtype),
        softcap=skeleton.softcap,
        activation=skeleton.activation,
    )


def _layers(skeleton: Skeleton, pool: KVPool) -> list[_C.DecoderLayer]:
    dtype = pool.k[0].dtype
    return [
        _C.DecoderLayer(
            attention_norm=_norm(layer.attention_norm),
            mlp_norm=_norm(layer.mlp_norm),
            attention_post_norm=layer.attention_post_norm and _norm(layer.attention_post_norm),
            mlp_post_norm=layer.mlp_post_norm and _norm(layer.mlp_post_norm),
            q_norm=layer.q_norm and _norm(layer.q_norm),
            k_norm=layer.k_norm and _norm(layer.k_norm),
            qkv=_product(layer.qkv, dtype),
            o=layer.o.product(dtype),
            gate_up=_product(layer.gate_up, dtype),
            down=layer.down.product(dtype),
            rope=layer.rope and _C.Rope(*layer.rope),
            scale=layer.scale,
            softcap=layer.softcap,
            window=layer.window,
            k_cache=k,
            v_cache=v,
        )
        for layer, k, v in zip(skeleton.layers, pool.k, pool.v, strict=True)
    ]


def _norm(norm: Norm) -> _C.RmsNorm:
    return _C.RmsNorm(**norm._asdict())


def _product(parts: Sequence[Product], dtype: torch.dtype) -> _C.Linear:
    return _C.SideBySide([part.product(dtype) for part in parts])


class OneCall:
    """A Forward by a decoder."""

    def __init__(self, decoder: _C.Decoder, forward: BlockForward) -> None:
        self._decoder = decoder
        self._like = forward.pool.k[0]
        self._columns = forward.model.get_output_embeddings().out_features
        self._width = forward.num_feature_layers * forward.model.config.hidden_size

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        block = BlockInputs(*inputs)
        logits = self._like.new_empty(len(block.logits_rows), self._columns)
        if not self._width:
            self._decoder.run(*block, logits, None)
            return (logits,)
        features = self._like.new_empty(block.tokens.shape[1], self._width)
        self._decoder.run(*block, logits, features)
        return logits, features

    def read(self, tokens: Sequence[int], block_table: Tensor, context_len: int) -> None:
        """See Forward. A few rows at a time, as a chain of nodes that all stay."""
        for first in range(0, len(tokens), READ_ROWS):
            piece = tokens[first : first + READ_ROWS]
            chain = _chain(piece, block_table, context_len + first)
            self._decoder.run(*chain, self._like.new_empty(0, self._columns), None)


def _chain(tokens: Sequence[int], block_table: Tensor, context_len: int) -> BlockInputs:
    count = len(tokens)
    start = _ints([context_len])
    return BlockInputs(
        tokens=_ints([tokens]),
        position_ids=_ints([range(context_len, context_len + count)]),
        row_indptr=_ints([0, count]),
        context_lens=start,
        start=start,
        n_nodes=_ints([count]),
        block_table=block_table,
        parents=_ints([range(-1, count - 1)]),
        logits_rows=_ints([]),
        ancestor_mask=torch.empty(count, -(-count // 32), dtype=torch.int32),
        depth=torch.empty(count, dtype=torch.int32),
    )


def _ints(values: Sequence[object]) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)
