"""Tiny models of every family whose forward is one call, their linear layers packed."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from specbranch.loading.prepack import pack_linears
from specbranch.loading.quantized import quantize_model
from specbranch.models.block_forward import BlockForward

from . import tiny
from .single import Single

NO_ROPE_EVERY_SECOND = {"no_rope_layers": [1, 0, 1], "layer_types": None}
# No width is a whole number of vectors.
ODD = {"hidden_size": 120, "intermediate_size": 100, "head_dim": 24, "num_attention_heads": 5}
CASES = {
    **{family: (family, {}) for family in (*tiny.FAMILIES, "Gemma")},
    "SmolLM3": ("SmolLM3", NO_ROPE_EVERY_SECOND),
    "SmolLM3 windows": (
        "SmolLM3",
        {
            "use_sliding_window": True,
            "sliding_window": tiny.WINDOW,
            "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
        },
    ),
    "Phi3": ("Phi3", {"sliding_window": tiny.WINDOW}),
    "Phi3 rotated in part": (
        "Phi3",
        {
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "partial_rotary_factor": 0.5,
            }
        },
    ),
    "Llama odd": ("Llama", {**ODD, "num_key_value_heads": 1}),
    "Llama biased": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "Llama tied": ("Llama", {"tie_word_embeddings": True}),
    "Llama yarn": (
        "Llama",
        {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}},
    ),
    "Llama linear": (
        "Llama",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
    ),
    "Gemma2 capped": ("Gemma2", {"final_logit_softcapping": 3.0}),
    "Qwen3 odd": ("Qwen3", {**ODD, "num_key_value_heads": 5}),
}


def plain(case: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The model with linear layers as transformers has them."""
    family, settings = CASES[case]
    model = tiny.model(family, **settings)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 1:  # norms are all ones or zeros, biases zeros
                weight.add_(torch.randn_like(weight) * 0.3 if "norm" in name else 0.1)
    return model.to(dtype).requires_grad_(False)


def packed(case: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    model = plain(case, dtype)
    pack_linears(model)
    return model


def quantized(case: str, bits: int, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    model = plain(case, dtype)
    quantize_model(model, bits)
    return model


def runs_in_one_call(single: Single) -> bool:
    """Whether its latest forward did; the others' is a `BlockForward`."""
    forward = single.runner._forward
    assert forward is not None
    return not isinstance(forward, BlockForward)
