"""What is told of each token's chances: the same bits whatever the policy."""

from __future__ import annotations

import pytest
import torch

from specbranch.loading.prepack import pack_linears
from specbranch.policies import Autoregressive
from tests.engine.by_hand import decoded
from tests.engine.test_identity import POLICIES, PROMPTS, Runs, params_of

ASKED = {"logprobs": 3, "frequency_penalty": 0.5}


@pytest.fixture(scope="module")
def runs():
    runs = Runs(0.15).packed()
    for model in (runs.pair.target, runs.pair.draft):
        pack_linears(model)  # whose rows have bits of their own
    return runs


@pytest.fixture(scope="module", params=["greedy", "all"])
def filters(request):
    return request.param


@pytest.fixture(scope="module")
def plain(runs, filters):
    return runs.engine(Autoregressive()).generate(PROMPTS[1], params_of(filters, **ASKED))


def test_they_are_of_the_targets_own_law(runs, plain, filters):
    """Before rules, temperature and filters."""
    text, logits = decoded(runs.eager, PROMPTS[1], params_of(filters, **ASKED))
    assert [each.token_id for each in plain.logprobs] == plain.token_ids == text
    for each, row in zip(plain.logprobs, logits, strict=True):
        law = row.double().log_softmax(-1)
        assert each.logprob == pytest.approx(float(law[each.token_id]), abs=1e-4)
        best = law.topk(3)
        assert list(each.top) == best.indices.tolist()
        assert list(each.top.values()) == pytest.approx(best.values.tolist(), abs=1e-4)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_tells_plain_decodings_to_the_bit(runs, plain, policy, filters):
    generation = runs.engine(POLICIES[policy]()).generate(PROMPTS[1], params_of(filters, **ASKED))
    assert generation.token_ids == plain.token_ids
    assert generation.logprobs == plain.logprobs


def test_chunks_tell_them(runs, plain, filters):
    stream = runs.engine(POLICIES["bestfirst"]()).stream(PROMPTS[1], params_of(filters, **ASKED))
    chunks = list(stream)
    assert [[told.token_id for told in each.logprobs] for each in chunks] == [
        each.token_ids for each in chunks
    ]
    assert [told for each in chunks for told in each.logprobs] == plain.logprobs
    assert max(len(each.logprobs) for each in chunks) > 1


def test_they_end_with_the_text(runs, plain, filters):
    for place in (0, 5, 11):
        asked = params_of(filters, **ASKED, eos_token_ids=[plain.token_ids[place]])
        generation = runs.engine(POLICIES["bestfirst-wide"]()).generate(PROMPTS[1], asked)
        assert generation.logprobs == plain.logprobs[: len(generation.token_ids)]


def test_in_a_batch_those_who_ask_are_told(runs, plain, filters):
    engine = runs.engine(POLICIES["sps"](), max_requests=3)
    kinds = [{"frequency_penalty": 0.5}, ASKED, ASKED | {"logprobs": 0}]
    answers = engine.generate([PROMPTS[1]] * 3, [params_of(filters, **each) for each in kinds])
    assert [each.token_ids for each in answers] == [plain.token_ids] * 3
    assert answers[0].logprobs == []
    assert answers[1].logprobs == plain.logprobs
    assert answers[2].logprobs == [each._replace(top={}) for each in plain.logprobs]


def test_more_than_there_are_are_all(runs):
    (told,) = (
        runs.engine(POLICIES["sps"]())
        .generate(PROMPTS[1], params_of("greedy", logprobs=1000, max_new_tokens=1))
        .logprobs
    )
    assert len(told.top) == 64
    assert torch.tensor(list(told.top.values())).exp().sum() == pytest.approx(1, abs=1e-5)
