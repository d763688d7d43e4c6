"""What few bits cost: `python -m bench.weights`.

Reads passages of the installed packages' documentation with the target in float32, in our 4
bits and, where llama-cpp-python is installed, with llama.cpp in its formats. Of each: how often its
first choice is that of float32, how far its laws are from that one's, and its perplexity.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from bench import llama, markdown
from bench.commit import commit
from bench.options import TARGET, positive
from bench.prompt_docs import docs_records
from specbranch.files import write_whole
from specbranch.loading.pair import load_pair

SPREAD = 8  # of so many passages one is read
TOKENS = 256  # of a text, at most
HEADER = ("weights", "agreement", "KL, nats", "perplexity")

Laws = Callable[[list[int]], Tensor]  # logits float32 [n, V] behind each of n tokens


@dataclass(slots=True)
class Figures:
    """Sums over tokens: of first choices that are float32's, of KL in nats, of loss."""

    tokens: int = 0
    agreed: float = 0.0
    divergence: float = 0.0
    loss: float = 0.0

    def add(self, ours: Tensor, expected: Tensor, text: list[int]) -> None:
        """ours, expected: logits float32 [n - 1, V] of all n tokens of `text` but the first."""
        ours, expected = ours.log_softmax(-1), expected.log_softmax(-1)
        self.tokens += len(ours)
        self.agreed += float((ours.argmax(-1) == expected.argmax(-1)).sum())
        self.divergence += float((expected.exp() * (expected - ours)).sum())
        self.loss -= float(ours.gather(1, torch.tensor(text[1:])[:, None]).sum())

    def row(self) -> tuple[str, str, str]:
        agreement, divergence = self.agreed / self.tokens, self.divergence / self.tokens
        return f"{agreement:.3f}", f"{divergence:.4f}", f"{math.exp(self.loss / self.tokens):.2f}"


def of_ours(model: PreTrainedModel) -> Laws:
    @torch.inference_mode()
    def laws(tokens: list[int]) -> Tensor:
        logits: Tensor = model(torch.tensor([tokens]), use_cache=False).logits[0]
        return logits.float()

    return laws


def of_llama(model: Any) -> Laws:
    def laws(tokens: list[int]) -> Tensor:
        model.reset()
        model.eval(tokens)
        return torch.from_numpy(model.scores[: len(tokens)].copy())

    return laws


def others(target: str) -> Iterator[tuple[str, Laws]]:
    """All but float32."""
    yield "q4", of_ours(load_pair(target, "self", target_weights="q4").target)
    for name, path in llama.files(target).items():
        model = llama.load(path, torch.get_num_threads(), TOKENS, logits_all=True)
        yield f"llama.cpp {name}", of_llama(model)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", default=TARGET)
    parser.add_argument("--texts", type=positive, default=50)
    parser.add_argument("--out", type=Path, default=Path("bench/results/weights.md"))
    options = parser.parse_args()
    disable_progress_bar()
    plain = load_pair(options.target, "self", target_weights="plain")
    passages = islice(docs_records(), 0, options.texts * SPREAD, SPREAD)
    texts = [plain.tokenizer(each["prompt"])["input_ids"][:TOKENS] for each in passages]
    exact, models = of_ours(plain.target), dict(others(options.target))
    found = {name: Figures() for name in ("fp32", *models)}
    for text in texts:
        expected = exact(text[:-1])
        found["fp32"].add(expected, expected, text)
        for name, laws in models.items():
            found[name].add(laws(text[:-1]), expected, text)
    rows = [(name, *figures.row()) for name, figures in found.items()]
    tokens = sum(map(len, texts))
    title = f"{options.target}, {len(texts)} texts of {tokens} tokens, at {commit()}"
    lines = ["# What few bits cost", "", f"{title}.", "", *markdown.table(HEADER, *rows)]
    write_whole(options.out, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
