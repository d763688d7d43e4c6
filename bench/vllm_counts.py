"""Target forwards of vLLM with its own proposers and with ours: `python -m bench.vllm_counts`.

Runs where vLLM is (`make test-vllm` makes such an environment in build/vllm-venv). Counts are not
times: our drafts are made in so many steps beside each forward, as if it took as long as they.
"""

from __future__ import annotations

import argparse
import copy
import gc
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.update(
    VLLM_ENABLE_V1_MULTIPROCESSING="0",
    VLLM_NO_USAGE_STATS="1",
    HF_HUB_OFFLINE="1",
)
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from vllm import LLM, SamplingParams
from vllm.distributed import cleanup_dist_env_and_memory

from bench import markdown
from specbranch.files import write_whole
from specbranch.loading.builtin import builtin_folder
from specbranch.prompts import EXAMPLE_PROMPTS

PROPOSER = "specbranch.adapters.vllm.Proposer"
HEADER = ("who drafts", "target forwards", "tokens per forward", "accepted", "hits", "identical")


class Served:
    """A model that vLLM serves in this process; a context manager. One at a time.

    options: those of our proposer, None for vLLM without it. k: draft tokens at most.
    forwards: of the target that gave a text tokens, a forward counted for each of its texts.
    """

    forwards = 0

    def __init__(
        self, model: Path | str, options: Mapping[str, Any] | None, k: int = 4, **more: Any
    ) -> None:
        if options is not None:
            more["speculative_config"] = {
                "method": "custom_class",
                "model": PROPOSER,
                "num_speculative_tokens": k,
            }
            more["additional_config"] = {"specbranch": dict(options)}
        settings = {"max_model_len": 512, "max_num_seqs": 8, "dtype": "float32", "seed": 0} | more
        self._llm = LLM(str(model), enforce_eager=True, disable_log_stats=False, **settings)

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *error: object) -> None:
        self._llm.llm_engine.engine_core.shutdown()
        del self._llm
        gc.collect()
        cleanup_dist_env_and_memory()

    def write(self, prompts: Sequence[Sequence[int]], **params: Any) -> list[list[int]]:
        """The outputs' tokens; all prompts at once. seed: for all, or one for each."""
        params = {"temperature": 0.0, "max_tokens": 48, "ignore_eos": True, "seed": None} | params
        seeds = params.pop("seed")
        each = seeds if isinstance(seeds, Sequence) else [seeds] * len(prompts)
        engine = self._llm.llm_engine
        for number, (prompt, seed_of) in enumerate(zip(prompts, each, strict=True)):
            asked = {"prompt_token_ids": list(prompt)}
            engine.add_request(str(number), asked, SamplingParams(**params, seed=seed_of))
        texts: list[list[int]] = [[] for _ in prompts]
        while engine.has_unfinished_requests():
            for output in engine.step():
                texts[int(output.request_id)] = list(output.outputs[0].token_ids)
                self.forwards += 1
        return texts

    def metric(self, name: str) -> int:
        """A counter of vLLM's, so far."""
        return sum(each.value for each in self._llm.get_metrics() if each.name == f"vllm:{name}")

    def report(self) -> Mapping[str, int]:
        """What our proposer says of itself."""
        return self._llm.collective_rpc(_report)[0]


def _report(worker: Any) -> Mapping[str, int]:
    return worker.model_runner.drafter.report()


class Method(NamedTuple):
    """Who drafts. speculative: vLLM's configuration, or options: of our proposer."""

    name: str
    speculative: Mapping[str, Any] | None = None
    options: Mapping[str, Any] | None = None


def methods(k: int, steps: int, rounded: Path) -> Iterator[Method]:
    """Nobody, ours, and vLLM's own: once vLLM has drafted by n-grams, no other engine starts in its
    process."""
    yield Method("nobody")
    beside = {"steps": steps}
    yield Method("SpecBranch, n-grams", options=beside)
    for draft in ("builtin:smollm2-draft", "builtin:smollm2-draft-10", "self:int4"):
        yield Method(f"SpecBranch, `{draft}`", options={"draft": draft} | beside)
    both = {"draft": "builtin:smollm2-draft-10", "source": "model+ngram"}
    yield Method("SpecBranch, `builtin:smollm2-draft-10` and n-grams", options=both | beside)
    model = {"method": "draft_model", "model": str(rounded), "num_speculative_tokens": k}
    yield Method("vLLM, `draft_model`, the target's weights rounded to 4 bits", model)
    ngram = {"method": "ngram", "prompt_lookup_min": 2, "prompt_lookup_max": 5}
    yield Method("vLLM, `ngram`", ngram | {"num_speculative_tokens": k})


def row(
    method: Method, served: Served, texts: list[list[int]], plain: list[list[int]]
) -> list[str]:
    """Of the table."""
    tokens = sum(map(len, texts))
    accepted = served.metric("spec_decode_num_accepted_tokens")
    drafted = served.metric("spec_decode_num_draft_tokens")
    report = served.report() if method.options else {}
    return [
        method.name,
        str(served.forwards),
        f"{tokens / served.forwards:.2f}",
        f"{accepted / drafted:.0%} of {drafted}" if drafted else "",
        f"{report['hits']} of {report['walks']}" if report else "",
        f"{sum(a == b for a, b in zip(texts, plain, strict=True))} of {len(plain)}",
    ]


def round_to_4_bits(folder: Path, into: Path) -> None:
    """Save a model whose matrices have 16 values in each group of 32, as `self:int4` has."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    head = model.get_output_embeddings()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear) and module is not head:
                groups = module.weight.unflatten(1, (-1, 32))
                low, high = groups.aminmax(dim=2, keepdim=True)
                step = (high - low) / 15
                rounded = low + ((groups - low) / step).round() * step
                module.weight.copy_(rounded.flatten(1))
    model.save_pretrained(into)
    AutoTokenizer.from_pretrained(folder).save_pretrained(into)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=128, help="of each text (%(default)s)")
    parser.add_argument("--k", type=int, default=6, help="draft tokens at most (%(default)s)")
    parser.add_argument("--steps", type=int, default=6, help="beside a forward (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("build/vllm-counts.md"))
    given = parser.parse_args()
    folder = builtin_folder("smollm2")
    rounded = Path("build/smollm2-int4")
    if not rounded.is_dir():
        round_to_4_bits(folder, rounded)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    messages = [[{"role": "user", "content": prompt}] for prompt in EXAMPLE_PROMPTS]
    chat = {"add_generation_prompt": True, "tokenize": True, "return_dict": True}
    prompts = [tokenizer.apply_chat_template(each, **chat)["input_ids"] for each in messages]
    plain: list[list[int]] = []
    rows = []
    for method in methods(given.k, given.steps, rounded):
        own = {"speculative_config": dict(method.speculative)} if method.speculative else {}
        with Served(folder, method.options, given.k, **copy.deepcopy(own)) as served:
            texts = served.write(prompts, max_tokens=given.tokens)
            plain = plain or texts
            rows.append(row(method, served, texts, plain))
        print(" | ".join(rows[-1]), flush=True)
    write_whole(given.out, "\n".join(markdown.table(HEADER, *rows)) + "\n")
    print(given.out)


if __name__ == "__main__":
    main()
