"""Which Hugging Face models we can run, and the cache that one of them needs."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel

_LAYER_TYPES = {"full_attention", "sliding_attention"}


@dataclass(frozen=True)
class KVShape:
    """What one cached token takes: `num_layers` times K and V of [num_kv_heads, head_dim]."""

    num_layers: int
    num_kv_heads: int
    head_dim: int


def cache_argument(model: PreTrainedModel) -> str:
    """The name under which a model's forward takes its cache: `cache` from transformers 5.24 on."""
    names = inspect.signature(model.forward).parameters
    return "cache" if "cache" in names else "past_key_values"


def seen(model: nn.Module) -> tuple[object, ...]:
    """All on which what a model computes may depend: its modules, what was put on them, and where
    their tensors lie. Values of tensors and of the config are not in it."""
    return tuple(
        (
            id(module),
            len(module._forward_pre_hooks) + len(module._forward_hooks),
            vars(module).get("forward"),
            *((id(tensor), tensor.data_ptr()) for tensor in module.parameters(recurse=False)),
            *map(id, module._buffers.values()),
        )
        for module in model.modules()
    )


def last_layers(model: PreTrainedModel, count: int) -> list[nn.Module]:
    """The last `count` decoder layers that a forward goes through, in its order.

    Raises ValueError if the model has fewer, or keeps its layers elsewhere than in `layers`.
    """
    if not count:
        return []
    layers = list(getattr(model.get_decoder(), "layers", ()))
    if not 0 < count <= len(layers):
        raise ValueError(
            f"feature_layers: expected 0 to {len(layers)} layers of {type(model).__name__}, "
            f"got {count}"
        )
    return layers[-count:]


def kv_shape(model: PreTrainedModel) -> KVShape:
    """Read the cache shape from a model's config.

    Raises ValueError if the model is no decoder whose attention we can replace: it has its own
    attention code, looks ahead, has layers other than full or sliding attention, windows that live
    in a mask alone, sinks, heads of unequal K and V size, heads of unequal number across layers, or
    a head_dim that the ops do not take.
    """
    name = type(model).__name__
    config = model.config.get_text_config(decoder=True)
    if not getattr(model, "_supports_attention_backend", False) or config.is_encoder_decoder:
        raise ValueError(
            f"model: expected a decoder-only model whose attention goes through transformers' "
            f"AttentionInterface, got {name}"
        )
    if not all(getattr(module, "is_causal", True) for module in model.get_decoder().modules()):
        raise ValueError(f"model: expected causal attention, got {name} that looks ahead")
    other_layers = set(getattr(config, "layer_types", None) or ()) - _LAYER_TYPES
    if other_layers:
        raise ValueError(
            f"model: expected only {' and '.join(sorted(_LAYER_TYPES))} layers, "
            f"got {', '.join(sorted(other_layers))} in {name}"
        )
    if _has_windows(config) and not _passes_windows(model):
        raise ValueError(
            f"model: expected sliding windows that the attention is told of, got {name}, which has "
            "them in its mask alone"
        )
    if getattr(config, "num_kv_shared_layers", 0):
        raise ValueError(f"model: expected a KV cache of its own in every layer, got {name}")
    if getattr(config, "v_head_dim", None):
        raise ValueError(f"model: expected keys and values of one head_dim, got {name}")
    if any(parameter.endswith(".sinks") for parameter, _ in model.named_parameters()):
        raise ValueError(f"model: expected attention without sinks, got {name}")
    num_heads = config.num_attention_heads
    num_kv_heads = getattr(config, "num_key_value_heads", None) or num_heads
    if not isinstance(num_heads, int) or not isinstance(num_kv_heads, int):
        raise ValueError(f"model: expected the same number of heads in every layer, got {name}")
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // num_heads
    if head_dim % 8 or head_dim > 256:
        raise ValueError(
            f"model: head_dim: expected a multiple of 8 up to 256, got {head_dim} in {name}"
        )
    return KVShape(config.num_hidden_layers, num_kv_heads, head_dim)


def _has_windows(config: Any) -> bool:
    layer_types = getattr(config, "layer_types", None)
    if layer_types:
        return "sliding_attention" in layer_types
    return getattr(config, "sliding_window", None) is not None


def _passes_windows(model: PreTrainedModel) -> bool:
    """Whether the code of the model's attention does; transformers has no other sign of it."""
    code = inspect.getmodule(type(model.get_decoder()))
    return code is not None and "sliding_window=" in inspect.getsource(code)


def max_positions(model: PreTrainedModel, unlimited: int) -> int:
    """How many positions a text may have; `unlimited` where the model has no limit."""
    config = model.config.get_text_config(decoder=True)
    return getattr(config, "max_position_embeddings", None) or unlimited


def steady_positions(model: PreTrainedModel) -> int | None:
    """How long a text may be before RoPE turns all of its positions by other angles, as longrope
    and dynamic NTK do, so that keys in the cache would no longer be right; None for any length."""
    limits: list[int] = []
    for module in model.get_decoder().modules():
        kinds: Any = getattr(module, "rope_type", None)
        for layer_type, kind in kinds.items() if isinstance(kinds, dict) else [(None, kinds)]:
            if kind == "longrope":
                every: Any = module.config.rope_parameters
                own = every[layer_type] if layer_type else every
                limits.append(own["original_max_position_embeddings"])
            elif kind == "dynamic":
                limits.append(module.original_max_seq_len)
    return min(limits, default=None)
