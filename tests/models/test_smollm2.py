"""The built-in model: a real one, on our cache, ops and packed weights."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM

from specbranch.models import ModelPair, ModelRunner
from specbranch.models.builtin import builtin_folder

PROMPT = "Write a Python function that returns the prime numbers below n."


def test_greedy_text_is_that_of_transformers_and_the_draft_follows(smollm2: ModelPair):
    prompt = smollm2.encode(PROMPT)
    plain = AutoModelForCausalLM.from_pretrained(builtin_folder("smollm2"), dtype=torch.float32)
    output = plain.generate(torch.tensor([prompt]), max_new_tokens=32, do_sample=False)
    expected = output[0, len(prompt) :].tolist()
    assert smollm2.eos_token_ids == frozenset([2])

    target = ModelRunner(smollm2.target, max_len=256, max_nodes=64)
    target.prefill(prompt[:-1])
    rows = target.forward([prompt[-1], *expected[:-1]], range(-1, len(expected) - 1))
    assert rows.argmax(-1).tolist() == expected

    draft = ModelRunner(smollm2.draft, max_len=256, max_nodes=64)
    draft.prefill(prompt[:-1])
    guesses = draft.forward([prompt[-1], *expected[:-1]], range(-1, len(expected) - 1))
    agreement = (guesses.argmax(-1) == torch.tensor(expected)).float().mean()
    assert agreement > 0.75
