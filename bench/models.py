"""Shapes of real models, by name."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from bench.floors import Heads


@dataclass(frozen=True, slots=True)
class Model:
    """heads: of each of its layers, in 16 bits. ffn: width of the middle of its MLPs."""

    name: str
    heads: Heads
    layers: int
    vocab: int
    ffn: int

    def heads_of(self, dtype: torch.dtype) -> Heads:
        return replace(self.heads, element_size=dtype.itemsize)


LLAMA_8B = Model("Llama-3.1-8B", Heads(32, 8, 128), 32, 128_256, 14_336)
QWEN_1_5B = Model("Qwen2.5-1.5B", Heads(12, 2, 128), 28, 151_936, 8_960)
SMOLLM2 = Model("SmolLM2-135M", Heads(9, 3, 64), 30, 49_152, 1_536)
LLAMA_68M = Model("LLaMA-68M", Heads(12, 12, 64), 2, 32_000, 3_072)
MODELS = (LLAMA_8B, QWEN_1_5B, SMOLLM2, LLAMA_68M)
