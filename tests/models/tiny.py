"""Tiny random models of each family, and what they say by their own attention code."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel

VOCAB_SIZE = 97
WINDOW = 9

# Query scale, windows and caps that matter on these short texts.
FAMILIES = {
    "Llama": {},
    "Qwen2": {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
    "Qwen3": {},
    "Mistral": {"sliding_window": WINDOW},
    "Gemma2": {
        "sliding_window": WINDOW,
        "attn_logit_softcapping": 2.0,
        "query_pre_attn_scalar": 8,
    },
    "Gemma3": {"sliding_window": WINDOW, "query_pre_attn_scalar": 8, "sliding_window_pattern": 2},
}


def model(family: str, **settings: object) -> PreTrainedModel:
    """Three layers, full or windowed, three query heads to one KV head; weights of order one."""
    sizes = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 96,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 256,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    text = "Text" if family == "Gemma3" else ""
    make_config = getattr(transformers, f"{family}{text}Config")
    config = make_config(**{**sizes, **FAMILIES.get(family, {}), **settings})
    torch.manual_seed(0)
    made = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    with torch.no_grad():
        for weight in made.parameters():
            if weight.dim() == 2:
                weight.copy_(torch.randn_like(weight) * weight.shape[1] ** -0.5)
    return made


def eager(original: PreTrainedModel) -> PreTrainedModel:
    """A copy that runs transformers' own attention code, without a cache."""
    copied = copy.deepcopy(original)
    copied.set_attn_implementation("eager")
    return copied


@torch.inference_mode()
def logits(of: PreTrainedModel, tokens: Sequence[int]) -> Tensor:
    """One full forward; ``[len(tokens), V]``."""
    return of(torch.tensor([list(tokens)]), use_cache=False).logits[0]
