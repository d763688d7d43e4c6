"""What few bits cost: `python -m bench.weights`.

Reads passages of the installed packages' documentation with the target in ordinary numbers, in few
bits, and with its own drafts. Of each: how often its first choice is that of the target in float32,
how far its laws are from that one's, its perplexity, and the bytes of its weights.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from bench.options import TARGET, positive
from bench.prompt_docs import docs_records
from specbranch.loading import load_pair

SPREAD = 8
"""Of so many passages one is read."""
TOKENS = 256  # of a text, at most
TARGETS = ("q8", "q4")
DRAFTS = ("self:int8", "self:int4")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.weights", description=__doc__)
    parser.add_argument("--target", default=TARGET)
    parser.add_argument("--texts", type=positive, default=50)
    parser.add_argument("--dtype", default="float32", help="of all but the quantised weights")
    options = parser.parse_args(arguments)
    disable_progress_bar()
    pair = load_pair(options.target, "self", target_weights="plain")
    models = dict(_models(options.target, options.dtype))
    found = {name: Figures() for name in models}
    for text in islice(_texts(pair.tokenizer), options.texts):
        expected = laws(pair.target, text)
        for name, model in models.items():
            found[name].add(laws(model, text), expected, text)
    tokens = next(iter(found.values())).tokens
    table = Table(title=f"{options.target}: {options.texts} texts, {tokens} tokens")
    for column in ("weights", "agreement", "KL", "perplexity", "MB"):
        table.add_column(column, justify="right" if column != "weights" else "left")
    for name, figures in found.items():
        table.add_row(name, *figures.row(), f"{weight_bytes(models[name]) / 1e6:.0f}")
    Console().print(table)


@dataclass(slots=True)
class Figures:
    """Sums over tokens: of first choices that are the target's, of KL in nats, of loss."""

    tokens: int = 0
    agreed: float = 0.0
    divergence: float = 0.0
    loss: float = 0.0

    def add(self, ours: Tensor, expected: Tensor, text: Tensor) -> None:
        """ours, expected: the laws of all tokens of `text` but the first."""
        self.tokens += len(ours)
        self.agreed += float((ours.argmax(-1) == expected.argmax(-1)).sum())
        self.divergence += float((expected.exp() * (expected - ours)).sum())
        self.loss -= float(ours.gather(1, text[1:, None]).sum())

    def row(self) -> tuple[str, str, str]:
        agreement, divergence = self.agreed / self.tokens, self.divergence / self.tokens
        return f"{agreement:.3f}", f"{divergence:.4f}", f"{math.exp(self.loss / self.tokens):.2f}"


def _texts(tokenizer: PreTrainedTokenizerBase) -> Iterator[Tensor]:
    """int64 [tokens] each."""
    for record in islice(docs_records(), 0, None, SPREAD):
        yield torch.tensor(tokenizer(record["prompt"])["input_ids"][:TOKENS])


def _models(target: str, dtype: str) -> Iterator[tuple[str, PreTrainedModel]]:
    yield dtype, load_pair(target, "self", dtype=dtype, target_weights="plain").target
    for weights in TARGETS:
        yield weights, load_pair(target, "self", dtype=dtype, target_weights=weights).target
    for draft in DRAFTS:
        yield draft, load_pair(target, draft, dtype=dtype, target_weights="plain").draft


@torch.inference_mode()
def laws(model: PreTrainedModel, text: Tensor) -> Tensor:
    """float32 [tokens - 1, V]: logarithms of the law of each token after the first."""
    logits: Tensor = model(text[None, :-1], use_cache=False).logits[0]
    return logits.float().log_softmax(-1)


def weight_bytes(model: PreTrainedModel) -> int:
    """Of all tensors that the model holds, each once."""
    tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


if __name__ == "__main__":
    main()
