"""The forward of a model of the common skeleton on a GPU, in about nine launches a layer where
transformers' modules take 41.

    fused_add_rms_norm  in the first layer rms_norm, of the embedding
    product             queries, keys and values in one
    rope_append_kv_     norms of heads, rotation, and keys and values to the cache
    branch_attention
    product             in Gemma 2 and 3 with rms_norm, here and at the end
    fused_add_rms_norm
    product             gates and what they gate in one
    silu_and_mul
    product
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specbranch import ops
from specbranch.models.attention import AttentionPass, PrefillPass
from specbranch.models.block_forward import BlockForward, BlockInputs
from specbranch.models.skeleton import Layer, Norm, Rope, Skeleton, skeleton_of

_ACTIVATIONS = {"silu": ops.silu_and_mul, "gelu_tanh": ops.gelu_tanh_and_mul}
_joining = threading.Lock()  # models on several lanes may share layers


def fused(forward: BlockForward, positions: int) -> FusedForward | None:
    """What `forward` does, or None if its model is not of the common skeleton, or not all of one
    dtype and on one device.

    positions: how many a text can have. Weights of products that become one are laid side by side;
    from then on the model's parameters are views of them.
    """
    model, like = forward.model, forward.pool.k[0]
    if any(w.dtype != like.dtype or w.device != like.device for w in model.parameters()):
        return None
    skeleton = skeleton_of(model, positions, lambda module: type(module) is nn.Linear)
    return None if skeleton is None else FusedForward(skeleton, forward)


class FusedForward:
    """A Forward by fused ops. It runs on a CPU, too, to be tested there."""

    def __init__(self, skeleton: Skeleton, forward: BlockForward) -> None:
        self._skeleton = skeleton
        self._layers = [_Layer(layer, skeleton.activation) for layer in skeleton.layers]
        self._head = _Products([skeleton.head])
        self._pool, self._begin = forward.pool, forward.begin
        self._feature_layers = forward.num_feature_layers

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See Forward."""
        block = BlockInputs(*inputs)
        x, features = self._run(block.tokens[0], block.position_ids[0], self._begin(block))
        logits = self._logits(x.index_select(0, block.logits_rows))
        return (logits, features.flatten(1)) if self._feature_layers else (logits,)

    def read(self, tokens: Sequence[int], block_table: Tensor, context_len: int) -> None:
        """See Forward."""
        chunk = PrefillPass(self._pool, block_table, context_len, len(tokens))
        positions = range(context_len, context_len + len(tokens))
        self._run(block_table.new_tensor(tokens), block_table.new_tensor(positions), chunk)

    def _run(
        self, tokens: Tensor, position_ids: Tensor, attention: AttentionPass
    ) -> tuple[Tensor, Tensor]:
        """Of each row what the head multiplies, [T, hidden], and features [T, layers, hidden]."""
        residual = self._embed(tokens)
        features = residual.new_empty(len(residual), self._feature_layers, residual.shape[1])
        layers = self._skeleton.layers
        x = ops.rms_norm(residual, *layers[0].attention_norm)
        norms = [*(layer.attention_norm for layer in layers[1:]), self._skeleton.norm]
        for number, (layer, norm) in enumerate(zip(self._layers, norms, strict=True)):
            x = layer.attend(number, x, position_ids, attention)
            ops.fused_add_rms_norm(x, residual, *layers[number].mlp_norm)
            x = layer.mlp(x)
            ops.fused_add_rms_norm(x, residual, *norm)
            feature = number - len(layers) + self._feature_layers
            if feature >= 0:
                features[:, feature] = residual
        return x, features

    def _embed(self, tokens: Tensor) -> Tensor:
        vectors = F.embedding(tokens, self._skeleton.embedding)
        scale = self._skeleton.embedding_scale
        return vectors if scale == 1 else vectors.mul_(scale)

    def _logits(self, x: Tensor) -> Tensor:
        logits, cap = self._head(x), self._skeleton.softcap
        return logits.div_(cap).tanh_().mul_(cap) if cap else logits


class _Layer:
    """Its two parts; each gives what is to be added to the residual."""

    def __init__(self, layer: Layer, activation: str) -> None:
        self._layer = layer
        self._qkv, self._o = _Products(layer.qkv), _Products([layer.o])
        self._gate_up, self._down = _Products(layer.gate_up), _Products([layer.down])
        self._act_and_mul = _ACTIVATIONS[activation]
        none = layer.attention_norm.weight.new_empty(0, 0, dtype=torch.float32)
        self._rope = layer.rope or Rope(none, none)

    def attend(
        self, number: int, x: Tensor, position_ids: Tensor, attention: AttentionPass
    ) -> Tensor:
        """x [T, H] -> [T, H]. number: of this layer's cache."""
        layer = self._layer
        k_cache, v_cache = attention.pool.k[number], attention.pool.v[number]
        kv_heads, head_dim = k_cache.shape[2:]
        heads = self._qkv(x).unflatten(1, (-1, head_dim))
        q, k, v = heads.split([heads.shape[1] - 2 * kv_heads, kv_heads, kv_heads], dim=1)
        ops.rope_append_kv_(
            q,
            k,
            v,
            k_cache,
            v_cache,
            attention.block_table,
            attention.start,
            attention.row_indptr,
            position_ids,
            *self._rope,
            layer.q_norm and layer.q_norm.weight,
            layer.k_norm and layer.k_norm.weight,
            *(layer.q_norm[1:] if layer.q_norm else ()),
        )
        query = q.transpose(0, 1)[None]
        out = attention.attend(number, query, layer.scale, layer.softcap, layer.window)
        return _normed(self._o(out[0].flatten(1)), layer.attention_post_norm)

    def mlp(self, x: Tensor) -> Tensor:
        """x [T, H] -> [T, H]"""
        x = self._down(self._act_and_mul(self._gate_up(x)))
        return _normed(x, self._layer.mlp_post_norm)


class _Products:
    """Several linear layers over the same rows as one product."""

    def __init__(self, linears: Sequence[nn.Linear]) -> None:
        self._weight = joined([linear.weight for linear in linears])
        biases = [linear.bias for linear in linears if linear.bias is not None]
        self._bias = joined(biases) if biases else None

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self._weight, self._bias)


def _normed(x: Tensor, norm: Norm | None) -> Tensor:
    """In place."""
    if norm is not None:
        ops.rms_norm_out(x, *norm, x)
    return x


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Contiguous parameters one after another, of which they are views from then on."""
    with _joining, torch.inference_mode(False), torch.no_grad():
        if not _follow_each_other(parts):
            whole = torch.cat([part.detach() for part in parts])
            if whole.is_cuda:
                torch.cuda.current_stream(whole.device).synchronize()  # old memory is free then
            for part, view in zip(parts, whole.split(list(map(len, parts))), strict=True):
                part.data = view
        first = parts[0].detach()
        return first.as_strided((sum(map(len, parts)), *first.shape[1:]), first.stride())


def _follow_each_other(parts: Sequence[Tensor]) -> bool:
    """Whether they lie so already."""
    first = parts[0]
    places = accumulate((part.nbytes for part in parts), initial=first.data_ptr())
    return all(
        part.is_contiguous()
        and part.data_ptr() == place
        and part.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        for part, place in zip(parts, places, strict=False)
    )
