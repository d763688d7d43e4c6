"""Models of the common skeleton, whose whole forward `_C.Decoder` runs in one call.

The skeleton: RMSNorm, attention with rotate-half RoPE, a gated MLP. A model is of it if its classes
are exactly those of a family below and nobody has changed what they do: no hook, no adapter, no
replaced module. Every other model runs as transformers wrote it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.activations import GELUTanh, SiLUActivation

from specbranch import _C
from specbranch.models.kv_pool import KVPool
from specbranch.models.parts import Product, Table, is_untouched
from specbranch.models.support import steady_positions


class Family(NamedTuple):
    """How the models of one family differ where their modules do not say it.

    norm_offset: added to the weights of norms. window_of_config: whether all layers have the
    config's sliding window, and not each its own. softcap: whether attention caps its scores.
    """

    norm_offset: float = 0.0
    window_of_config: bool = False
    softcap: bool = False


_GEMMA = Family(norm_offset=1.0)
_FAMILIES = {
    "llama.LlamaForCausalLM": Family(),
    "qwen2.Qwen2ForCausalLM": Family(),
    "qwen3.Qwen3ForCausalLM": Family(),
    "mistral.MistralForCausalLM": Family(window_of_config=True),
    "smollm3.SmolLM3ForCausalLM": Family(),
    "phi3.Phi3ForCausalLM": Family(window_of_config=True),
    "gemma.GemmaForCausalLM": _GEMMA,
    "gemma2.Gemma2ForCausalLM": _GEMMA._replace(softcap=True),
    "gemma3.Gemma3ForCausalLM": _GEMMA,
}
_ACTIVATIONS = {SiLUActivation: "silu", nn.SiLU: "silu", GELUTanh: "gelu_tanh"}
_PARTS = {nn.ModuleList, nn.Embedding, nn.Dropout, *_ACTIVATIONS}


def decoder(model: PreTrainedModel, pool: KVPool, positions: int) -> _C.Decoder | None:
    """The model's forward over nodes of blocks in `pool`, or None if it is not of the skeleton.

    positions: how many a text can have. The decoder shares the model's tensors.
    """
    family = _family(model)
    if family is None or pool.k[0].device.type != "cpu":
        return None
    body, config = model.model, model.config
    embedding, scale = _embedding(body.embed_tokens)
    positions = min(positions, steady_positions(model) or positions)
    ropes = _Ropes(body.rotary_emb, model.dtype, positions)
    return _C.Decoder(
        embedding=embedding,
        embedding_scale=scale,
        layers=[
            _layer(layer, family, config, ropes, k, v, model.dtype)
            for layer, k, v in zip(_layers(model), pool.k, pool.v, strict=True)
        ],
        norm=_norm(body.norm, family),
        head=model.lm_head.product(model.dtype),
        softcap=getattr(config, "final_logit_softcapping", None) or 0.0,
        activation=_ACTIVATIONS[type(_activation(_layers(model)[0].mlp))],
    )


def _family(model: PreTrainedModel) -> Family | None:
    """The model's, if all of it is as its family has it, but for linear layers, which have to be
    `Product`s."""
    kind = type(model)
    _, _, name = kind.__module__.rpartition(".modeling_")
    family = _FAMILIES.get(f"{name}.{kind.__name__}")
    if family is None or kind.__module__ != f"transformers.models.{name}.modeling_{name}":
        return None
    as_written = all(
        is_untouched(module)
        and (
            type(module) in _PARTS
            or isinstance(module, Product | Table)
            or type(module).__module__ == kind.__module__
        )
        for module in model.modules()
    )
    activations = (
        {type(_activation(layer.mlp)) for layer in _layers(model)} if as_written else set()
    )
    return family if len(activations) == 1 and activations < _ACTIVATIONS.keys() else None


def _layers(model: PreTrainedModel) -> list[Any]:
    layers: Any = model.model.layers
    return list(layers)[: model.config.num_hidden_layers]


def _activation(mlp: Any) -> nn.Module:
    activation: nn.Module = mlp.activation_fn if hasattr(mlp, "activation_fn") else mlp.act_fn
    return activation


def _embedding(module: Any) -> tuple[Tensor, float]:
    """Its weights, and what its vectors are multiplied by."""
    weight = module.weight.detach()
    scale = getattr(module, "embed_scale", None)
    return weight, 1.0 if scale is None else float(scale.to(weight.dtype))


def _layer(
    layer: Any,
    family: Family,
    config: Any,
    ropes: _Ropes,
    k: Tensor,
    v: Tensor,
    dtype: torch.dtype,
) -> Any:
    attention, mlp = layer.self_attn, layer.mlp
    has_post_norms = hasattr(layer, "pre_feedforward_layernorm")
    after_attention = _norm(layer.post_attention_layernorm, family)
    window = config.sliding_window if family.window_of_config else _window(attention)
    return _C.DecoderLayer(
        attention_norm=_norm(layer.input_layernorm, family),
        mlp_norm=_norm(layer.pre_feedforward_layernorm, family)
        if has_post_norms
        else after_attention,
        attention_post_norm=after_attention if has_post_norms else None,
        mlp_post_norm=_norm(layer.post_feedforward_layernorm, family) if has_post_norms else None,
        q_norm=_norm(attention.q_norm, family) if hasattr(attention, "q_norm") else None,
        k_norm=_norm(attention.k_norm, family) if hasattr(attention, "k_norm") else None,
        qkv=_side_by_side(attention, "qkv_proj", ("q_proj", "k_proj", "v_proj"), dtype),
        o=attention.o_proj.product(dtype),
        gate_up=_side_by_side(mlp, "gate_up_proj", ("gate_proj", "up_proj"), dtype),
        down=mlp.down_proj.product(dtype),
        rope=ropes.of(attention),
        scale=attention.scaling,
        softcap=(attention.attn_logit_softcapping or 0.0) if family.softcap else 0.0,
        window=window or 0,
        k_cache=k,
        v_cache=v,
    )


def _window(attention: Any) -> int | None:
    window: int | None = getattr(attention, "sliding_window", None)
    return window


def _norm(module: Any, family: Family) -> _C.RmsNorm:
    eps = module.variance_epsilon if hasattr(module, "variance_epsilon") else module.eps
    return _C.RmsNorm(weight=module.weight.detach(), eps=eps, offset=family.norm_offset)


def _side_by_side(parent: Any, fused: str, parts: Sequence[str], dtype: torch.dtype) -> _C.Linear:
    if hasattr(parent, fused):
        linear: _C.Linear = getattr(parent, fused).product(dtype)
        return linear
    return _C.SideBySide([getattr(parent, part).product(dtype) for part in parts])


class _Ropes:
    """Cosines and sines of all positions as the model has them, once for each kind of layer."""

    def __init__(self, rotary: Any, dtype: torch.dtype, positions: int) -> None:
        self._rotary = rotary
        self._x = torch.empty(0, dtype=dtype)
        self._positions = torch.arange(positions)[None]
        self._tables: dict[str | None, _C.Rope] = {}

    def of(self, attention: Any) -> _C.Rope | None:
        """What rotates a layer's queries and keys; None where nothing does."""
        if not getattr(attention, "use_rope", True):
            return None
        several = isinstance(self._rotary.rope_type, dict)
        kind: str | None = attention.layer_type if several else None
        if kind not in self._tables:
            self._tables[kind] = self._table(*([kind] if kind else []))
        return self._tables[kind]

    @torch.inference_mode()
    def _table(self, *kind: str) -> _C.Rope:
        tables = self._rotary(self._x, self._positions, *kind)
        # Both halves of a row are the same.
        return _C.Rope(*(table[0].float().chunk(2, dim=-1)[0].contiguous() for table in tables))
