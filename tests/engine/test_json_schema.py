"""JSON that follows a schema: inside branches, too, it is plain decoding's under the same masks."""

from __future__ import annotations

import dataclasses
import json
import math
import sys

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from specbranch import reference
from specbranch.grammar import Grammar, Grammars
from specbranch.models.sampling_rows import SamplingRows
from specbranch.sampling import SamplingParams
from tests.engine import tiny
from tests.engine.test_identity import POLICIES, Runs, params_of

xgrammar = pytest.importorskip("xgrammar")

EOS = 0
CHARS = ["<eos>", *'{}[]":, -.', *"0123456789", *"abcdefghijklmnopqrstuvwxyz", *"ABCDEFGHIJKLMNOPQ"]
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 6},
        "sizes": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 4},
    },
    "required": ["name", "sizes"],
    "additionalProperties": False,
}
PROMPTS = [[5], [30, 31, 32, 33]]
LENGTH = 80


def tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordLevel({c: i for i, c in enumerate(CHARS)}, unk_token="a"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>")


@pytest.fixture(scope="module")
def runs():
    assert len(CHARS) == 64
    runs = Runs(0.15).packed()
    ends = frozenset([EOS])
    runs.pair = dataclasses.replace(runs.pair, tokenizer=tokenizer(), eos_token_ids=ends)
    return runs


def masked_text(model, prompt: list[int], params: SamplingParams) -> list[int]:
    """Plain decoding under the masks, by a matcher that never goes back."""
    info = xgrammar.TokenizerInfo.from_huggingface(tokenizer(), vocab_size=64)
    compiled = xgrammar.GrammarCompiler(info).compile_json_schema(json.dumps(params.json_schema))
    matcher = xgrammar.GrammarMatcher(compiled, override_stop_tokens=[EOS])
    filters = SamplingRows(1, torch.device("cpu")).send([(params, [params.seed])])
    output: list[int] = []
    while len(output) < params.max_new_tokens and EOS not in output:
        text = torch.tensor([[*prompt, *output]])
        with torch.inference_mode():
            logits = model(text).logits[0, -1].double()
        mask = torch.full((1, 2), -1, dtype=torch.int32)
        matcher.fill_next_token_bitmask(mask)
        allowed = [bool(int(mask[0, token // 32]) >> token % 32 & 1) for token in range(64)]
        logits = logits.masked_fill(~torch.tensor(allowed), -math.inf)
        position = torch.tensor([text.shape[1]], dtype=torch.int32)
        output.append(int(reference.sample(logits[None], *filters, position)))
        assert matcher.accept_token(output[-1])
    return output


def asked(filters: str, **changes) -> SamplingParams:
    return params_of(filters, json_schema=SCHEMA, max_new_tokens=LENGTH, **changes)


@pytest.fixture(scope="module")
def expected(runs):
    return {
        filters: [masked_text(runs.eager, prompt, asked(filters)) for prompt in PROMPTS]
        for filters in ("greedy", "T=1", "all")
    }


@pytest.mark.parametrize("filters", ["greedy", "T=1", "all"])
@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_writes_what_plain_decoding_writes(runs, expected, policy, filters):
    engine = runs.engine(POLICIES[policy]())
    for prompt, text in zip(PROMPTS, expected[filters], strict=True):
        assert engine.generate(prompt, asked(filters)).token_ids == text


@pytest.mark.parametrize("coupling", ["gumbel", "rejection"])
def test_whole_texts_follow_the_schema(runs, coupling):
    engine = runs.engine(POLICIES["bestfirst"](), max_requests=4)
    every = [asked("T=1", coupling=coupling, seed=seed) for seed in range(12)]
    answers = engine.generate([PROMPTS[1]] * 12, every)
    whole = [each.text for each in answers if each.finish_reason == "eos"]
    assert len(whole) > 6
    for text in whole:
        found = json.loads(text)
        assert list(found) == ["name", "sizes"]
        assert all(isinstance(size, int) for size in found["sizes"])


def test_identity_notices_masks_without_the_rows_ancestors(runs, expected, monkeypatch):
    apply_ = Grammar.apply_

    def wrong(self, logits, columns, committed, paths):
        apply_(self, logits, columns, committed, [[] for _ in paths])

    monkeypatch.setattr(Grammar, "apply_", wrong)
    generation = runs.engine(POLICIES["bestfirst"]()).generate(PROMPTS[0], asked("greedy"))
    assert generation.token_ids != expected["greedy"][0]


def test_drafts_see_the_masks(runs):
    """One that is the target has all guesses right, also with a head in another order."""
    perfect = dataclasses.replace(runs.pair, draft=Runs(0.0).pair.draft)
    target = tiny.pair(seed=0, noise=0.0).target
    for head in (None, range(63, -1, -1)):
        draft = tiny.with_tokens(target, head) if head else perfect.draft
        engine = Runs(0.0)
        engine.pair = dataclasses.replace(
            engine.pair, draft=draft, tokenizer=tokenizer(), eos_token_ids=frozenset([EOS])
        )
        generation = engine.engine(POLICIES["sps"]()).generate(PROMPTS[1], asked("greedy"))
        assert generation.stats.acceptance_rate == 1


def test_others_beside_it_are_as_they_are_alone(runs, expected):
    engine = runs.engine(POLICIES["bestfirst"](), max_requests=2)
    plain = params_of("T=1", frequency_penalty=0.5)
    answers = engine.generate([PROMPTS[0], PROMPTS[1]], [asked("T=1"), plain])
    assert answers[0].token_ids == expected["T=1"][0]
    alone = runs.engine(POLICIES["sps"]()).generate(PROMPTS[1], plain)
    assert answers[1].token_ids == alone.token_ids


def test_what_cannot_be_done_is_said(runs):
    engine = runs.engine(POLICIES["sps"]())
    with pytest.raises(ValueError, match="json_schema: expected a JSON schema, got another"):
        engine.generate([5], SamplingParams(json_schema="{"))
    with pytest.raises(ValueError, match="json_schema: expected a token that ends the text"):
        engine.generate([5], SamplingParams(json_schema=SCHEMA, ignore_eos=True))


def test_without_xgrammar_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "xgrammar", None)
    with pytest.raises(ImportError, match=r"pip install 'specbranch\[grammar\]'"):
        Grammars(tokenizer(), 64).rule(SCHEMA, 1, [EOS])
