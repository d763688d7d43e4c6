"""Texts of the built-in model are plain decoding's to the token, in bf16 as in fp32, on threads."""

from __future__ import annotations

import pytest

from specbranch.engine import Engine
from specbranch.lanes import ThreadLanes
from specbranch.loading import load_pair
from specbranch.policies import make_policy
from specbranch.sampling import SamplingParams

METHODS = ["specbranch", "bestfirst", "bench.random_policy:RandomPolicy"]
REQUESTS = {
    "Write a Python function that returns the prime numbers below n.": SamplingParams(
        max_new_tokens=16
    ),
    "Why is the sky blue?": SamplingParams(temperature=0.7, top_p=0.95, seed=7, max_new_tokens=16),
}


def written(pair, method: str) -> list[list[int]]:
    with ThreadLanes(1, 1) as lanes:
        engine = Engine(pair, make_policy(method), lanes=lanes, max_len=128, max_nodes=64)
        return [engine.generate(prompt, each).token_ids for prompt, each in REQUESTS.items()]


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def pair(request, smollm2):
    if request.param == "float32":
        return smollm2
    return load_pair("builtin:smollm2", "self:int4", dtype="bfloat16")


@pytest.fixture(scope="module")
def alone(pair) -> list[list[int]]:
    return written(pair, "ar")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_writes_what_the_target_alone_writes(pair, alone, method):
    assert written(pair, method) == alone
