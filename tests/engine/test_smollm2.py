"""The built-in pair end to end: whatever the policy, the text is the target's own."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from specbranch.costs.model import CostModel
from specbranch.engine import Engine
from specbranch.lanes import Lanes, ThreadLanes, VirtualLanes
from specbranch.loading.builtin import builtin_folder
from specbranch.policies import POLICIES, make_policy
from specbranch.sampling import SamplingParams

PROMPTS = [
    "Write a Python function that returns the prime numbers below n.",
    "Why is the sky blue?",
]
NEW_TOKENS = 16
GREEDY = SamplingParams(max_new_tokens=NEW_TOKENS)
SAMPLED = SamplingParams(temperature=0.7, top_p=0.95, seed=7, max_new_tokens=NEW_TOKENS)

Texts = dict[tuple[str, float], list[int]]


def written(pair, method: str, lanes: Lanes) -> Texts:
    """Token ids by prompt and temperature, all from one engine."""
    engine = Engine(pair, make_policy(method), lanes=lanes, max_len=128, max_nodes=32)
    return {
        (prompt, params.temperature): engine.generate(prompt, params).token_ids
        for prompt in PROMPTS
        for params in (GREEDY, SAMPLED)
    }


def virtual_lanes() -> VirtualLanes:
    return VirtualLanes(CostModel.parse("virtual:c=4"))


@pytest.fixture(scope="module")
def alone(smollm2) -> Texts:
    """What the target writes by itself."""
    return written(smollm2, "ar", virtual_lanes())


def test_plain_greedy_decoding_is_transformers(smollm2, alone):
    plain = AutoModelForCausalLM.from_pretrained(builtin_folder("smollm2"), dtype=torch.float32)
    for prompt in PROMPTS:
        ids = smollm2.encode(prompt)
        output = plain.generate(torch.tensor([ids]), max_new_tokens=NEW_TOKENS, do_sample=False)
        assert alone[prompt, 0.0] == output[0, len(ids) :].tolist()


def test_sampled_texts_are_others_than_greedy_ones(alone):
    assert all(alone[prompt, 0.7] != alone[prompt, 0.0] for prompt in PROMPTS)


@pytest.mark.long
@pytest.mark.parametrize("method", [name for name in POLICIES if name != "ar"])
def test_every_policy_writes_what_the_target_alone_writes(smollm2, alone, method):
    assert written(smollm2, method, virtual_lanes()) == alone


@pytest.mark.long
def test_threads_write_it_too(smollm2, alone):
    with ThreadLanes(1, 1) as lanes:
        assert written(smollm2, "specbranch", lanes) == alone
