"""Decoding with synthetic pairs on a GPU: `python -m bench.synthetic --out FILE.json`.

The draft is a random Llama, the target a twin that says the same at several times the cost. They
need no weights and no network. What they measure is schedules and kernels, never agreement: every
figure from them is to be called synthetic.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from specbranch.comparison.baseline import compare
from specbranch.comparison.session import Session
from specbranch.files import write_whole
from specbranch.loading.pair import ModelPair
from specbranch.sampling import SamplingParams

TINY = {
    "vocab_size": 256,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
ONE_BILLION = {
    "vocab_size": 128256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}

COST = 8  # layers of the target for each of the draft's
NOISE = {"the target's weights": 0.0, "noisy weights": 0.1}
METHODS = ("sps", "pearl", "specbranch", "bestfirst")
FIGURES = ("method", "tokens_per_s", "speedup", "mean_accepted_length", "acceptance_rate")
FIGURES += ("overlap", "identical_to_ar", "first_divergence")
PROMPT_LEN = 128


def random_llama(
    sizes: dict[str, int], device: torch.device, dtype: torch.dtype
) -> LlamaForCausalLM:
    """A Llama of these sizes whose next token depends strongly on its context."""
    config = LlamaConfig(
        **sizes,
        max_position_embeddings=4096,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    torch.manual_seed(0)
    llama = _empty_llama(config, device, dtype)
    with torch.no_grad():
        for weight in llama.parameters():
            if weight.dim() == 2:
                weight.normal_(0, weight.shape[1] ** -0.5)
        llama.model.embed_tokens.weight.mul_(8)
        llama.lm_head.weight.mul_(3)
    return llama


def costlier_twin(llama: LlamaForCausalLM, times: int) -> LlamaForCausalLM:
    """A Llama with the very logits of another and `times` its layers.

    Behind each layer come `times - 1` that add exactly zero: the projections back into the residual
    stream are zero, and nothing else about them is.
    """
    config = LlamaConfig(
        **{**llama.config.to_dict(), "num_hidden_layers": times * llama.config.num_hidden_layers}
    )
    twin = _empty_llama(config, llama.device, llama.dtype)
    with torch.no_grad():
        twin.model.embed_tokens.weight.copy_(llama.model.embed_tokens.weight)
        twin.model.norm.weight.copy_(llama.model.norm.weight)
        twin.lm_head.weight.copy_(llama.lm_head.weight)
        for index, layer in enumerate(twin.model.layers):
            original, copies = divmod(index, times)
            layer.load_state_dict(llama.model.layers[original].state_dict())
            if copies:
                layer.self_attn.o_proj.weight.zero_()
                layer.mlp.down_proj.weight.zero_()
    return twin


def noisy(llama: LlamaForCausalLM, noise: float) -> LlamaForCausalLM:
    """A copy with noise on its weights, relative to their spread: it agrees less."""
    copied = _empty_llama(llama.config, llama.device, llama.dtype)
    copied.load_state_dict(llama.state_dict())
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in copied.parameters():
            if weight.dim() == 2:
                weight.add_(torch.randn_like(weight) * (weight.std() * noise))
    return copied


def _empty_llama(config: LlamaConfig, device: torch.device, dtype: torch.dtype) -> LlamaForCausalLM:
    with torch.device(device):
        llama = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return llama.eval().requires_grad_(False)


def tokenizer(vocab_size: int) -> PreTrainedTokenizerFast:
    """A word for each id."""
    vocab = {f"t{index}": index for index in range(vocab_size)}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="t0"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def pair_of(target: LlamaForCausalLM, draft: LlamaForCausalLM, name: str) -> ModelPair:
    return ModelPair(
        target=target,
        draft=draft,
        tokenizer=tokenizer(target.config.vocab_size),
        target_name="synthetic twin",
        draft_name=name,
        eos_token_ids=frozenset(),
    )


def measure(
    device: torch.device,
    sizes: dict[str, int] = ONE_BILLION,
    dtype: torch.dtype = torch.bfloat16,
    new_tokens: int = 128,
) -> dict[str, Any]:
    """Every method against plain decoding with the same target, greedy."""
    params = SamplingParams(max_new_tokens=new_tokens)
    small = random_llama(sizes, device, dtype)
    target = costlier_twin(small, COST)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(sizes["vocab_size"], (PROMPT_LEN,), generator=generator).tolist()
    prompt = " ".join(f"t{token}" for token in ids)
    rows = []
    for name, noise in NOISE.items():
        pair = pair_of(target, noisy(small, noise) if noise else small, name)
        for run in compare(Session(pair), ["ar", *METHODS], [prompt], params):
            told = run.as_json()
            rows.append({"draft": name} | {figure: told[figure] for figure in FIGURES})
    return {"synthetic": True, "dtype": str(dtype), "layers_ratio": COST, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    write_whole(options.out, json.dumps(measure(torch.device("cuda")), indent=1) + "\n")


if __name__ == "__main__":
    main()
