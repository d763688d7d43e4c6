"""Every causal model of transformers, tiny and random: right, or refused in words.

`python -m tests.architectures [KIND ...]`, kinds as AutoConfig names them, makes a random model of
each architecture, generates greedily with transformers and with the engine, and counts. It fails
where texts differ, or where the engine ends in another error than a ValueError.
"""

from __future__ import annotations

import copy
import sys
import warnings
from collections import Counter
from collections.abc import Iterable

import torch
import transformers
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL

from specbranch import Engine
from specbranch.costs.model import CostModel
from specbranch.lanes import VirtualLanes
from specbranch.loading.pair import ModelPair
from specbranch.policies import SpecBranch
from specbranch.sampling import SamplingParams

VOCABULARY, PROMPT, NEW = 96, list(range(20, 43)), 24
LARGEST = 10**7

SIZES = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "word_embed_proj_dim"), 64),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size"), 128),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 32),
    **dict.fromkeys(("decoder_ffn_dim", "encoder_ffn_dim"), 128),
    **dict.fromkeys(("decoder_layers", "encoder_layers"), 2),
    **dict.fromkeys(("decoder_attention_heads", "encoder_attention_heads"), 4),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads"), 2),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 256),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "top_k_experts"), 2),
    **dict.fromkeys(("n_group", "topk_group", "first_k_dense_replace"), 1),
    **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id", "layer_types"), None),
    **{"vocab_size": VOCABULARY, "head_dim": 16, "rotary_dim": 8, "sliding_window": 9},
    **{"vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 16},
    **{"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8},
    **{"v_head_dim": 16, "mamba_d_state": 8, "mamba_n_heads": 4, "mamba_d_head": 32},
}
"""What a configuration has of these is made small; a window that is off stays off."""


def small_config(kind: str, special: int | None) -> PreTrainedConfig:
    usual = AutoConfig.for_model(kind)
    settings = {
        name: size
        for name, size in SIZES.items()
        if hasattr(usual, name) and not isinstance(getattr(type(usual), name, None), property)
    }
    if getattr(usual, "sliding_window", None) is None:
        settings.pop("sliding_window", None)
    if "kv_lora_rank" in settings:
        settings.pop("head_dim", None)
    if special is not None:
        settings.pop("layer_types", None)
        settings.update((name, special) for name in settings if name.endswith("_token_id"))
    return type(usual)(**settings)


def random_model(kind: str, architecture: str, special: int | None) -> PreTrainedModel:
    """Weights of order one, so that a text depends on all of its context. special: the id of the
    special tokens, which some kinds must have."""
    make, config = getattr(transformers, architecture), small_config(kind, special)
    with torch.device("meta"):
        if sum(weight.numel() for weight in make(copy.deepcopy(config)).parameters()) > LARGEST:
            raise MemoryError("not small")
    torch.manual_seed(0)
    model = make(config).float().eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() >= 2:
                weight.copy_(torch.randn_like(weight) * weight.shape[-1] ** -0.5)
    return model


def text_of(model: PreTrainedModel) -> list[int]:
    prompt = torch.tensor([PROMPT])
    asked = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    text = model.generate(prompt, attention_mask=torch.ones_like(prompt), **asked)
    return text[0, len(PROMPT) :].tolist()


def our_text(model: PreTrainedModel) -> list[int]:
    draft = copy.deepcopy(model)
    with torch.no_grad():
        for weight in draft.parameters():
            weight.add_(torch.randn_like(weight) * 0.1 * weight.std(correction=0))
    pair = ModelPair(model, draft, None, "target", "draft", frozenset())  # type: ignore[arg-type]
    lanes = VirtualLanes(CostModel.parse("virtual:c=4"))
    with Engine(pair, SpecBranch(), lanes=lanes, max_len=64) as engine:
        return engine.generate(PROMPT, SamplingParams(temperature=0, max_new_tokens=NEW)).token_ids


def built(kind: str, architecture: str) -> tuple[PreTrainedModel, list[int]]:
    """A model and its text."""
    try:
        model = random_model(kind, architecture, None)
        return model, text_of(model)
    except Exception:
        model = random_model(kind, architecture, 0)
        return model, text_of(model)


def verdict(kind: str, architecture: str) -> tuple[str, str]:
    try:
        model, expected = built(kind, architecture)
    except Exception as error:  # of transformers, or of a configuration that is none
        return "not built", f"{type(error).__name__}: {error}"
    try:
        return ("identical", "") if our_text(model) == expected else ("DIFFERENT", "")
    except ValueError as error:
        return "refused", str(error)
    except Exception as error:
        return "OTHER ERROR", f"{type(error).__name__}: {error}"


def main(names: Iterable[str]) -> None:
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    counts: Counter[str] = Counter()
    for kind, architecture in CAUSAL.items():
        if names and kind not in names:
            continue
        architecture = architecture if isinstance(architecture, str) else architecture[0]
        word, why = verdict(kind, architecture)
        counts[word] += 1
        print(f"{word:12} {architecture:36} {' '.join(why.split())[:160]}", flush=True)
    print(", ".join(f"{count} {word}" for word, count in counts.most_common()))
    sys.exit(bool(counts["DIFFERENT"] + counts["OTHER ERROR"]))


if __name__ == "__main__":
    main(sys.argv[1:])
