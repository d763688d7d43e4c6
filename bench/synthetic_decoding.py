"""Decoding with a synthetic pair on a GPU: `python -m bench.synthetic_decoding --out FILE.json`.

The draft is a random Llama, the target its costlier twin.

The text means nothing and the draft agrees as well as its noise lets it, so these figures tell how
fast schedules and kernels are and nothing about real models.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from bench import twin
from specbranch.comparison.divergence import ar_margin, first_difference
from specbranch.engine import Engine, Generation
from specbranch.files import write_whole
from specbranch.models.pair import ModelPair
from specbranch.policies import make_policy
from specbranch.sampling import SamplingParams

COST = 8  # layers of the target for each of the draft's
NOISE = {"the target's weights": 0.0, "noisy weights": 0.1}
METHODS = ("sps", "pearl", "specbranch", "bestfirst")
PROMPT_LEN = 128


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
    sizes: dict[str, int] = twin.ONE_BILLION,
    dtype: torch.dtype = torch.bfloat16,
    new_tokens: int = 128,
) -> dict[str, Any]:
    """Every method against plain decoding with the same target, greedy."""
    params = SamplingParams(max_new_tokens=new_tokens)
    small = twin.random_llama(sizes, device, dtype)
    target = twin.costlier_twin(small, COST)
    generator = torch.Generator().manual_seed(0)
    prompt = torch.randint(sizes["vocab_size"], (PROMPT_LEN,), generator=generator).tolist()
    alone: Generation | None = None
    rows = []
    for name, noise in NOISE.items():
        pair = pair_of(target, twin.noisy(small, noise) if noise else small, name)
        for method in METHODS if alone else ("ar", *METHODS):
            with Engine(pair, make_policy(method), max_len=1024) as engine:
                engine.generate(prompt, params)  # captures, and warms up
                generation = engine.generate(prompt, params)
            alone = alone or generation
            rows.append(_row(name, method, generation, alone, _text(pair, generation, alone)))
    return {"synthetic": True, "dtype": str(dtype), "layers_ratio": COST, "rows": rows}


def _row(
    draft: str, method: str, generation: Generation, alone: Generation, text: str
) -> dict[str, Any]:
    stats = generation.stats
    return {
        "draft": draft,
        "method": method,
        "tokens_per_s": len(generation.token_ids) / stats.wall_s,
        "speedup": alone.stats.wall_s / stats.wall_s,
        "mean_accepted_length": stats.mean_accepted_length,
        "acceptance_rate": stats.acceptance_rate,
        "overlap": stats.overlap,
        "cost_ratio": stats.cost_ratio,
        "text": text,
    }


def _text(pair: ModelPair, found: Generation, alone: Generation) -> str:
    """Whether it is plain decoding's, and if not, how near a tie that was where they part."""
    position = first_difference(found.token_ids, alone.token_ids)
    if position is None:
        return "identical to plain decoding"
    margin = ar_margin(pair, alone, position, SamplingParams())
    return f"parts at token {position}, where plain decoding's margin was {margin}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    write_whole(options.out, json.dumps(measure(torch.device("cuda")), indent=1) + "\n")


if __name__ == "__main__":
    main()
