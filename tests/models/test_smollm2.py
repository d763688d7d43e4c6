"""The built-in model and its quantised draft: on our cache, ops and packed weights."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from specbranch.loading import ModelPair
from specbranch.loading.builtin import builtin_folder

from .single import Single

PROMPT = "Write a Python function that returns the prime numbers below n."

Text = tuple[list[int], list[int]]


@pytest.fixture(scope="module")
def plain() -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(builtin_folder("smollm2"), dtype=torch.float32)


@pytest.fixture(scope="module")
def text(smollm2: ModelPair, plain: PreTrainedModel) -> Text:
    """A prompt, and what transformers makes of it greedily."""
    prompt = smollm2.encode(PROMPT)
    output = plain.generate(torch.tensor([prompt]), max_new_tokens=32, do_sample=False)
    return prompt, output[0, len(prompt) :].tolist()


def logits(model: PreTrainedModel, text: Text) -> torch.Tensor:
    """For each token of the answer, those that it follows from."""
    prompt, answer = text
    runner = Single.of(model, max_len=256, max_nodes=64)
    runner.prefill(prompt[:-1])
    return runner.forward([prompt[-1], *answer[:-1]], [*range(-1, len(answer) - 1)])


def test_greedy_text_is_that_of_transformers_and_the_draft_follows(smollm2: ModelPair, text: Text):
    answer = torch.tensor(text[1])
    assert smollm2.eos_token_ids == frozenset([2])
    assert torch.equal(logits(smollm2.target, text).argmax(-1), answer)
    guesses = logits(smollm2.draft, text).argmax(-1)
    assert (guesses == answer).float().mean() > 0.75
