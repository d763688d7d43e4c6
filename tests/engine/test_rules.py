"""Penalties, biases and a least length: inside branches, too, the text is plain decoding's."""

from __future__ import annotations

import dataclasses

import pytest

from specbranch.rules import Penalties, under_rules
from specbranch.sampling import SamplingParams
from tests.engine import tiny
from tests.engine.by_hand import decoded
from tests.engine.test_identity import POLICIES, PROMPTS, Runs, params_of
from tests.engine.test_sequence_law import (
    REJECTION,
    SIGNIFICANCE,
    VOCAB,
    exact_law,
    missing,
    p_value,
    sampled,
)

RULES: dict[str, dict[str, object]] = {
    "repetition": {"repetition_penalty": 1.3},
    "rewarded repetition": {"repetition_penalty": 0.8},
    "frequency": {"frequency_penalty": 0.7},
    "presence": {"presence_penalty": 1.5},
    "wanted presence": {"presence_penalty": -1.5},
    "bias": {"logit_bias": {3: 4.0, 9: -100.0, 63: 2.5}},
    "all": {
        "repetition_penalty": 1.2,
        "frequency_penalty": 0.4,
        "presence_penalty": 0.5,
        "logit_bias": {3: 4.0, 9: -100.0},
    },
}


@pytest.fixture(scope="module")
def runs():
    return Runs(0.15).packed()


@pytest.mark.parametrize("filters", ["greedy", "T=1", "all"])
@pytest.mark.parametrize("rule", RULES)
def test_plain_decoding_is_what_is_written_by_hand(runs, rule, filters):
    for prompt in PROMPTS:
        text, _ = decoded(runs.eager, prompt, params_of(filters, **RULES[rule]))
        assert runs.autoregressive(prompt, filters, **RULES[rule]) == text


def test_rules_change_texts(runs):
    without = runs.autoregressive(PROMPTS[1], "greedy")
    texts = {tuple(runs.autoregressive(PROMPTS[1], "greedy", **RULES[rule])) for rule in RULES}
    assert len(texts | {tuple(without)}) > len(RULES) - 1


@pytest.mark.parametrize("filters", ["greedy", "T=1", "all"])
@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_writes_what_the_target_alone_writes(runs, policy, filters):
    engine = runs.engine(POLICIES[policy]())
    for rule in ("frequency", "all"):
        for prompt in PROMPTS:
            generation = engine.generate(prompt, params_of(filters, **RULES[rule]))
            assert generation.token_ids == runs.autoregressive(prompt, filters, **RULES[rule])


def ignoring_ancestors(monkeypatch):
    """As if a row's text were what is committed."""
    apply_ = Penalties.apply_

    def wrong(self, logits, columns, committed, paths):
        apply_(self, logits, columns, committed, [[] for _ in paths])

    monkeypatch.setattr(Penalties, "apply_", wrong)


def test_identity_notices_counts_without_the_rows_ancestors(runs, monkeypatch):
    texts = [runs.autoregressive(prompt, "greedy", **RULES["all"]) for prompt in PROMPTS]
    ignoring_ancestors(monkeypatch)
    engine = runs.engine(POLICIES["bestfirst"]())
    wrong = [engine.generate(each, params_of("greedy", **RULES["all"])) for each in PROMPTS]
    assert [each.token_ids for each in wrong] != texts


LAW = {**REJECTION, "frequency_penalty": 1.0, "presence_penalty": 0.5, "repetition_penalty": 1.3}


@pytest.fixture(scope="module")
def small():
    return tiny.packed(tiny.pair(seed=5, noise=0.5, vocab_size=VOCAB, sharpness=1.0))


@pytest.fixture(scope="module")
def law():
    return exact_law(tiny.model(5, VOCAB, sharpness=1.0), SamplingParams(**LAW))


@pytest.mark.parametrize(
    "policy", ["sps", pytest.param("bestfirst", marks=pytest.mark.long), "random-1"]
)
def test_rejection_sampled_sequences_have_the_law_under_rules(small, law, policy):
    assert p_value(sampled(small, POLICIES[policy](), LAW), law) > SIGNIFICANCE


def test_the_law_notices_counts_without_the_rows_ancestors(small, law, monkeypatch):
    ignoring_ancestors(monkeypatch)
    counts = sampled(small, POLICIES["sps"](), LAW, runs=400)
    assert p_value(counts, law | missing(law)) < SIGNIFICANCE


@pytest.mark.parametrize("head", [None, range(63, -1, -1), range(63, 19, -1)])
def test_drafts_see_the_rules(head):
    """Those of a draft that is the target are all right, as long as its head has the token."""
    runs = Runs(0.0)
    if head:
        runs.pair = dataclasses.replace(runs.pair, draft=tiny.with_tokens(runs.pair.draft, head))
    banned = {token: -100.0 for token in range(64) if head and token not in head}
    asked = params_of("greedy", **RULES["all"] | {"logit_bias": {25: 4.0, **banned}})
    generation = runs.engine(POLICIES["sps"]()).generate(PROMPTS[1], asked)
    assert generation.stats.acceptance_rate == 1


def test_a_draft_that_does_not_see_them_is_noticed(monkeypatch):
    monkeypatch.setattr("specbranch.sources.model.under_rules", lambda logits, *_: logits)
    runs = Runs(0.0)
    generation = runs.engine(POLICIES["sps"]()).generate(
        PROMPTS[1], params_of("greedy", **RULES["all"])
    )
    assert generation.stats.acceptance_rate < 1
    assert generation.token_ids == runs.autoregressive(PROMPTS[1], "greedy", **RULES["all"])


@pytest.mark.parametrize("policy", ["sps", "bestfirst", "random-2"])
def test_those_without_rules_beside_them_are_as_they_are_alone(runs, policy, monkeypatch):
    kinds = [{}, RULES["all"], {}, RULES["frequency"]]
    engine = runs.engine(POLICIES[policy](), max_requests=4)
    prompts = [PROMPTS[1], PROMPTS[1], PROMPTS[2], PROMPTS[0]]
    asked = [params_of("T=1", **kind) for kind in kinds]
    for prompt, kind, each in zip(prompts, kinds, engine.generate(prompts, asked), strict=True):
        assert each.token_ids == runs.autoregressive(prompt, "T=1", **kind)


def test_without_rules_nothing_is_done(runs, monkeypatch):
    handed = []

    def watched(logits, *others):
        handed.append((logits, under_rules(logits, *others)))
        return handed[-1][1]

    monkeypatch.setattr("specbranch.verifier.under_rules", watched)
    monkeypatch.setattr("specbranch.sources.model.under_rules", watched)
    runs.engine(POLICIES["bestfirst"]()).generate(PROMPTS[1], params_of("T=1"))
    assert handed
    assert all(before is after for before, after in handed)


@pytest.mark.parametrize("policy", ["sps", "bestfirst", "random-1"])
@pytest.mark.parametrize("filters", ["greedy", "T=1.3"])
def test_no_end_comes_too_early(runs, policy, filters):
    ends = sorted({*runs.autoregressive(PROMPTS[1], filters)[:9]})
    asked = params_of(filters, eos_token_ids=ends, min_new_tokens=12)
    text, _ = decoded(runs.eager, PROMPTS[1], asked, ends)
    assert len(text) > 12
    engine = runs.engine(POLICIES[policy]())
    assert engine.generate(PROMPTS[1], asked).token_ids == text
    early = engine.generate(PROMPTS[1], params_of(filters, eos_token_ids=ends)).token_ids
    assert len(early) == 1


def test_tokens_that_the_target_lacks_have_no_bias(runs):
    with pytest.raises(ValueError, match="logit_bias: expected token ids from 0 to 63, got 64"):
        runs.engine(POLICIES["sps"]()).generate([1], SamplingParams(logit_bias={64: 1.0}))
