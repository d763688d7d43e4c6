"""Examples: what a classifier would have seen at each token of a text, and what came."""

from __future__ import annotations

import dataclasses
import os

import pytest
import torch

from specbranch.costs.model import CostModel
from specbranch.engine import Engine
from specbranch.hrad.features import FEATURE_LAYERS
from specbranch.lanes import VirtualLanes
from specbranch.models.sampling_rows import SamplingRows
from specbranch.ops import draft_topk
from specbranch.policies import SpeculativeSampling
from specbranch.prompts import PromptRecord
from specbranch.sampling import SamplingParams
from specbranch.training.hrad.collect import Collector
from specbranch.training.hrad.collection import Collection
from tests.engine import tiny
from tests.models.single import Single

GAMMA = 3
PROMPT = PromptRecord("speculate now", "chat")


@pytest.fixture(scope="module")
def pair():
    return tiny.pair(noise=0.15, layers=FEATURE_LAYERS + 1)


@pytest.fixture(scope="module")
def engine(pair) -> Engine:
    lanes = VirtualLanes(CostModel.parse("virtual:c=4"))
    return Engine(pair, SpeculativeSampling(4), lanes=lanes, max_len=128)


def collector(engine: Engine, gamma: int = GAMMA, **params: object) -> Collector:
    return Collector(engine, SamplingParams(**{"max_new_tokens": 30, **params}), gamma)


@pytest.fixture(scope="module")
def draft(pair) -> Single:
    return Single.of(pair.draft, max_len=1, max_nodes=96)


def drafted(draft: Single, context: list[int], params: SamplingParams) -> tuple[int, list[float]]:
    """The draft's guess of the next token and its certainty, by one forward over everything."""
    draft.reset()
    logits = draft.forward(context, [*range(-1, len(context) - 1)], logits_rows=1)
    sampling = SamplingRows(1, logits.device).send([(params, [params.seed])])
    position = torch.tensor([len(context)], dtype=torch.int32)
    ids, _, *certainty = draft_topk(logits, 1, *sampling, position, "gumbel")
    return int(ids), list(map(float, certainty))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_block_is_what_the_draft_says_by_itself(engine, pair, draft, temperature):
    params = SamplingParams(temperature=temperature, seed=5, max_new_tokens=30)
    examples = collector(engine, temperature=temperature, seed=5).examples(PROMPT)
    prompt = pair.encode(PROMPT.prompt)
    text = engine.generate(prompt, params).token_ids
    assert len(examples.accepted) == len(text) - GAMMA
    for root, accepted in enumerate(examples.accepted.tolist()):
        chain: list[int] = []
        for certainty in examples.block[root].tolist():
            guess, expected = drafted(draft, [*prompt, *text[: root + 1], *chain], params)
            assert certainty == pytest.approx(expected, abs=1e-4)
            chain.append(guess)
        matches = [guess == token for guess, token in zip(chain, text[root + 1 :], strict=False)]
        assert accepted == (matches.index(False) if False in matches else GAMMA)
    assert set(examples.accepted.tolist()) >= {0, GAMMA}, "blocks too much alike to tell"


def test_inputs_are_features_where_the_target_stopped_and_the_embedding_after(engine, pair):
    examples = collector(engine).examples(PROMPT)
    prompt = pair.encode(PROMPT.prompt)
    text = engine.generate(prompt, SamplingParams(max_new_tokens=30)).token_ids
    runner = Single.of(pair.target, max_len=64, max_nodes=1, feature_layers=FEATURE_LAYERS)
    runner.prefill(prompt[:-1])
    embedding = pair.target.get_input_embeddings().weight
    for token, inputs, new in zip([prompt[-1], *text], examples.inputs, text, strict=False):
        runner.forward([token], [-1])
        expected = torch.cat([runner.runner.features[0], embedding[new]])
        torch.testing.assert_close(inputs, expected, atol=1e-4, rtol=1e-4)
        runner.keep([0], 1)


def test_a_text_shorter_than_a_block_gives_no_example(engine, tmp_path):
    short = collector(engine, max_new_tokens=2)
    collection = Collection.resume(tmp_path, short.settings)
    collection.add(PROMPT.prompt, short.examples(PROMPT))
    (read,) = collection.load()
    assert read.inputs.shape[0] == len(read.accepted) == 0
    assert read.block.shape == (0, GAMMA, 2)


def test_the_rejection_couplings_texts_are_refused(engine):
    with pytest.raises(ValueError, match="coupling: expected gumbel"):
        collector(engine, temperature=1.0, coupling="rejection").examples(PROMPT)


def test_examples_are_read_as_they_were_written(engine, tmp_path):
    collect = collector(engine)
    written = collect.examples(PROMPT)
    Collection.resume(tmp_path, collect.settings).add(PROMPT.prompt, written)
    again = Collection(tmp_path)
    assert again.settings == collect.settings
    (read,) = again.load()
    for field in dataclasses.fields(read):
        one, other = getattr(read, field.name), getattr(written, field.name)
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_a_half_written_prompt_is_redone(engine, tmp_path, monkeypatch):
    collect = collector(engine)
    collection = Collection.resume(tmp_path, collect.settings)
    collection.add("first", collect.examples(PROMPT))

    def killed(descriptor: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            collection.add("second", collect.examples(PROMPT))
    resumed = Collection.resume(tmp_path, collect.settings)
    assert "first" in resumed
    assert "second" not in resumed
    assert len(resumed.load()) == 1
    resumed.add("second", collect.examples(PROMPT))
    assert len(resumed.load()) == 2
    assert not list(tmp_path.glob(".*"))


def test_a_folder_begun_with_other_settings_is_refused(engine, tmp_path):
    Collection.resume(tmp_path, collector(engine).settings)
    with pytest.raises(ValueError, match=r"out: .* begun with gamma 4, got .* with 3"):
        Collection.resume(tmp_path, collector(engine, gamma=4).settings)


def test_another_folder_is_no_collection(tmp_path):
    with pytest.raises(ValueError, match="data: expected a folder of `hrad collect`"):
        _ = Collection(tmp_path).settings
