"""Models of the common skeleton, whose forwards are of our own making.

The skeleton: RMSNorm, attention with rotate-half RoPE, a gated MLP. A model is of it if its classes
are exactly those of a family below and nobody has changed what they do: no hook, no adapter, no
replaced module. Every other model runs as transformers wrote it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.activations import GELUTanh, SiLUActivation

from specbranch.models.parts import is_untouched
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


class Norm(NamedTuple):
    """x / sqrt(mean(x^2) + eps) * (weight + offset)."""

    weight: Tensor  # [width]
    eps: float
    offset: float


class Rope(NamedTuple):
    """The angles of all positions, fp32 [positions, rotated dimensions / 2]."""

    cos: Tensor
    sin: Tensor


class Layer(NamedTuple):
    """One decoder layer. Linear layers that multiply the same rows stand side by side.

    softcap: of attention's scores, 0 for none. window: 0 for none.
    """

    attention_norm: Norm
    mlp_norm: Norm
    attention_post_norm: Norm | None
    mlp_post_norm: Norm | None
    q_norm: Norm | None
    k_norm: Norm | None
    qkv: Sequence[Any]
    o: Any
    gate_up: Sequence[Any]
    down: Any
    rope: Rope | None
    scale: float
    softcap: float
    window: int


class Skeleton(NamedTuple):
    """A model in parts, which share its tensors.

    embedding_scale: what its vectors are multiplied by. softcap: of logits, 0 for none.
    activation: "silu" or "gelu_tanh".
    """

    embedding: Tensor
    embedding_scale: float
    layers: list[Layer]
    norm: Norm
    head: Any
    softcap: float
    activation: str


def skeleton_of(
    model: PreTrainedModel, positions: int, fits: Callable[[nn.Module], bool]
) -> Skeleton | None:
    """The model in parts, or None if it is not of the skeleton.

    positions: how many a text can have. fits: whether a linear layer, or a table that is no
    `nn.Embedding`, is of the kind wanted.
    """
    family = _family(model, fits)
    if family is None:
        return None
    body, config = model.model, model.config
    embedding, scale = _embedding(body.embed_tokens)
    ropes = _Ropes(body.rotary_emb, model, min(positions, steady_positions(model) or positions))
    return Skeleton(
        embedding=embedding,
        embedding_scale=scale,
        layers=[_layer(layer, family, config, ropes) for layer in _layers(model)],
        norm=_norm(body.norm, family),
        head=model.lm_head,
        softcap=getattr(config, "final_logit_softcapping", None) or 0.0,
        activation=_ACTIVATIONS[type(_activation(_layers(model)[0].mlp))],
    )


def _family(model: PreTrainedModel, fits: Callable[[nn.Module], bool]) -> Family | None:
    """The model's, if all of it is as its family has it, but for linear layers, which have to be
    of the kind wanted."""
    kind = type(model)
    _, _, name = kind.__module__.rpartition(".modeling_")
    family = _FAMILIES.get(f"{name}.{kind.__name__}")
    if family is None or kind.__module__ != f"transformers.models.{name}.modeling_{name}":
        return None
    as_written = all(
        is_untouched(module)
        and (type(module) in _PARTS or fits(module) or type(module).__module__ == kind.__module__)
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


def _layer(layer: Any, family: Family, config: Any, ropes: _Ropes) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    has_post_norms = hasattr(layer, "pre_feedforward_layernorm")
    after_attention = _norm(layer.post_attention_layernorm, family)
    window = config.sliding_window if family.window_of_config else _window(attention)
    return Layer(
        attention_norm=_norm(layer.input_layernorm, family),
        mlp_norm=_norm(layer.pre_feedforward_layernorm, family)
        if has_post_norms
        else after_attention,
        attention_post_norm=after_attention if has_post_norms else None,
        mlp_post_norm=_norm(layer.post_feedforward_layernorm, family) if has_post_norms else None,
        q_norm=_norm(attention.q_norm, family) if hasattr(attention, "q_norm") else None,
        k_norm=_norm(attention.k_norm, family) if hasattr(attention, "k_norm") else None,
        qkv=_side_by_side(attention, "qkv_proj", ("q_proj", "k_proj", "v_proj")),
        o=attention.o_proj,
        gate_up=_side_by_side(mlp, "gate_up_proj", ("gate_proj", "up_proj")),
        down=mlp.down_proj,
        rope=ropes.of(attention),
        scale=attention.scaling,
        softcap=(attention.attn_logit_softcapping or 0.0) if family.softcap else 0.0,
        window=window or 0,
    )


def _window(attention: Any) -> int | None:
    window: int | None = getattr(attention, "sliding_window", None)
    return window


def _norm(module: Any, family: Family) -> Norm:
    eps = module.variance_epsilon if hasattr(module, "variance_epsilon") else module.eps
    return Norm(module.weight.detach(), eps, family.norm_offset)


def _side_by_side(parent: Any, fused: str, parts: Sequence[str]) -> Sequence[Any]:
    names = [fused] if hasattr(parent, fused) else parts
    return [getattr(parent, name) for name in names]


class _Ropes:
    """Cosines and sines of all positions as the model has them, once for each kind of layer."""

    def __init__(self, rotary: Any, model: PreTrainedModel, positions: int) -> None:
        self._rotary = rotary
        self._x = torch.empty(0, dtype=model.dtype, device=model.device)
        self._positions = torch.arange(positions, device=model.device)[None]
        self._tables: dict[str | None, Rope] = {}

    def of(self, attention: Any) -> Rope | None:
        """What rotates a layer's queries and keys; None where nothing does."""
        if not getattr(attention, "use_rope", True):
            return None
        several = isinstance(self._rotary.rope_type, dict)
        kind: str | None = attention.layer_type if several else None
        if kind not in self._tables:
            self._tables[kind] = self._table(*([kind] if kind else []))
        return self._tables[kind]

    @torch.inference_mode()
    def _table(self, *kind: str) -> Rope:
        tables = self._rotary(self._x, self._positions, *kind)
        # Both halves of a row are the same.
        return Rope(*(table[0].float().chunk(2, dim=-1)[0].contiguous() for table in tables))
