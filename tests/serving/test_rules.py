"""Penalties, biases and log-probabilities as OpenAI's interface has them."""

from __future__ import annotations

import math

import pytest

from specbranch.costs.model import CostModel
from specbranch.engine import Engine
from specbranch.lanes import VirtualLanes
from specbranch.policies import Autoregressive
from specbranch.sampling import SamplingParams
from tests.serving.conftest import Served, serving
from tests.serving.test_answers import CHAT, MESSAGES, TEXT, ids_of

RULES = {"frequency_penalty": 0.5, "presence_penalty": 0.3, "logit_bias": {"5": 4, "7": -100}}
OURS = RULES | {"logit_bias": {5: 4, 7: -100}}


@pytest.fixture(scope="module")
def plain(pair):
    """A generation by plain decoding alone."""
    lanes = VirtualLanes(CostModel.parse("virtual:c=4"))
    engine = Engine(pair, Autoregressive(), lanes=lanes, max_requests=1, max_len=256)

    def generation(prompt, **params):
        given = {"temperature": 1.0, "max_new_tokens": 24, "seed": 7, **params}
        return engine.generate(prompt, SamplingParams(**given))

    return generation


def test_a_chat_under_rules(served: Served, plain) -> None:
    extra = {"extra_body": {"repetition_penalty": 1.2, "min_p": 0.02, "top_k": 30}}
    answer = served.client.chat.completions.create(**CHAT, **RULES, **extra)
    text = plain(MESSAGES, **OURS, repetition_penalty=1.2, min_p=0.02, top_k=30).text
    assert answer.choices[0].message.content == text != plain(MESSAGES).text


def test_a_completion_under_rules(served: Served, pair, plain) -> None:
    answer = served.client.completions.create(**TEXT, **RULES)
    assert answer.choices[0].text == plain(ids_of(pair, "once upon"), **OURS).text


def test_a_least_length(pair, plain) -> None:
    ends = frozenset(plain(MESSAGES).token_ids[:3])
    ended = type(pair)(pair.target, pair.draft, pair.tokenizer, "a", "b", ends)
    with serving(ended) as served:
        create = served.client.chat.completions.create
        assert create(**CHAT).usage.completion_tokens == 1
        assert create(**CHAT, extra_body={"min_tokens": 9}).usage.completion_tokens > 9


def told(plain_text, pair) -> list[tuple[str, float, list[tuple[str, float]]]]:
    def shown(token: int) -> str:
        return pair.tokenizer.convert_ids_to_tokens(token)

    return [
        (shown(each.token_id), each.logprob, [(shown(t), p) for t, p in each.top.items()])
        for each in plain_text.logprobs
    ]


def test_logprobs_of_a_chat(served: Served, pair, plain) -> None:
    expected = told(plain(MESSAGES, logprobs=3), pair)
    create = served.client.chat.completions.create
    answer = create(**CHAT, logprobs=True, top_logprobs=3).choices[0].logprobs.content
    assert [
        (each.token, each.logprob, [(top.token, top.logprob) for top in each.top_logprobs])
        for each in answer
    ] == expected
    assert all(bytes(each.bytes).decode() == each.token for each in answer)
    parts = list(create(**CHAT, logprobs=True, top_logprobs=3, stream=True))
    told_of = [part.choices[0].logprobs for part in parts]
    streamed = [each for part in told_of if part for each in part.content]
    assert streamed == answer
    alone = create(**CHAT, logprobs=True).choices[0].logprobs.content
    assert [(each.token, each.logprob) for each in alone] == [each[:2] for each in expected]
    assert all(each.top_logprobs == [] for each in alone)
    assert create(**CHAT, logprobs=False).choices[0].logprobs is None


def test_logprobs_of_completions(served: Served, pair, plain) -> None:
    expected = plain(ids_of(pair, "once upon"), logprobs=2)
    create = served.client.completions.create
    choice = create(**TEXT, logprobs=2).choices[0]
    answer = choice.logprobs
    assert answer.token_logprobs == [each.logprob for each in expected.logprobs]
    assert answer.tokens == [token for token, *_ in told(expected, pair)]
    assert answer.text_offset == [len("".join(answer.tokens[:n])) for n in range(24)]
    for token, chance, top in zip(
        answer.tokens, answer.token_logprobs, answer.top_logprobs, strict=True
    ):
        assert top[token] == chance
        assert 2 <= len(top) <= 3
        assert max(top.values()) <= 0
    parts = [part.choices[0].logprobs for part in create(**TEXT, logprobs=2, stream=True)]
    parts = [part for part in parts if part]
    assert len(parts) > 1
    for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        assert [each for part in parts for each in getattr(part, name)] == getattr(answer, name)


def test_chances_of_several_choices(served: Served, plain) -> None:
    answer = served.client.chat.completions.create(**CHAT, n=2, logprobs=True)
    for seed, choice in enumerate(answer.choices, start=7):
        expected = plain(MESSAGES, seed=seed, logprobs=0).logprobs
        assert [each.logprob for each in choice.logprobs.content] == [e.logprob for e in expected]
        assert all(math.isfinite(each.logprob) for each in choice.logprobs.content)
