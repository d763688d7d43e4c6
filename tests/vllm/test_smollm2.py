"""A real model in vLLM, with the drafts that come with it."""

from __future__ import annotations

import pytest
from transformers import AutoTokenizer

from bench.vllm_counts import Served
from specbranch.loading.builtin import builtin_folder

TEXTS = [
    "The history of the lighthouse begins long before the age of steam.",
    "def fibonacci(n):\n    ",
    "1 2 3 4 5 6 7 8 9 10 11 12",
]
TOKENS = 40


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    tokenizer = AutoTokenizer.from_pretrained(builtin_folder("smollm2"))
    return [tokenizer(text)["input_ids"] for text in TEXTS]


@pytest.fixture(scope="module")
def plain(prompts) -> list[list[int]]:
    with Served(builtin_folder("smollm2"), None) as served:
        return served.write(prompts, max_tokens=TOKENS)


@pytest.mark.parametrize("draft", ["self:int4", "builtin:smollm2-draft"])
def test_its_texts_take_fewer_forwards(prompts, plain, draft):
    with Served(builtin_folder("smollm2"), {"draft": draft, "steps": 5}) as served:
        assert served.write(prompts, max_tokens=TOKENS) == plain
    assert len(TEXTS) * TOKENS / served.forwards > (2 if draft == "self:int4" else 1.1)
