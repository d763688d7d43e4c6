"""H-RAD in the loop: it sees the right rows, and changes no text and no law."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import pytest
import torch
from torch import Tensor

from specbranch.costs.model import CostModel
from specbranch.engine import Engine
from specbranch.hrad.features import FEATURE_LAYERS, Certainty, text_features
from specbranch.hrad.model import HRad, HRadConfig, OutlookClassifier
from specbranch.lanes import ThreadLanes, VirtualLanes
from specbranch.models.runner import ModelRunner
from specbranch.policies import Autoregressive, SpecBranch
from specbranch.policies.base import Outcome, Outlook
from specbranch.replay import DraftLaws, DraftModel, LawStore, Recording, Replayer, record
from specbranch.sampling import SamplingParams
from specbranch.training.hrad.examples import next_blocks
from tests.engine import tiny
from tests.engine.test_sequence_law import (
    LENGTH,
    PROMPT,
    REJECTION,
    RUNS,
    SIGNIFICANCE,
    VOCAB,
    exact_law,
    p_value,
)

FILTERS = {
    "greedy": SamplingParams(max_new_tokens=48),
    "T=1": SamplingParams(temperature=1.0, seed=3, max_new_tokens=48),
    "top-k, top-p": SamplingParams(temperature=0.8, top_k=20, top_p=0.9, seed=4, max_new_tokens=48),
}


Blocks = Sequence[Sequence[Certainty]]


class Fickle(HRad):
    """Random weights, and classes that change places with the token, so that each comes up."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.blocks: list[Sequence[Certainty]] = []  # that it has seen

    def outlooks(self, features: Tensor, tokens: list[int], blocks: Blocks) -> list[Outlook]:
        self.blocks += blocks
        outlooks = super().outlooks(features, tokens, blocks)
        return [
            Outlook(*(outlook[(place + token) % 3] for place in range(3)))
            for outlook, token in zip(outlooks, tokens, strict=True)
        ]


def random_hrad(pair, gamma: int = 4) -> HRad:
    hidden = pair.target.config.hidden_size
    config = HRadConfig(pair.target_name, pair.draft_name, gamma, FEATURE_LAYERS, hidden)
    torch.manual_seed(0)
    classifier = OutlookClassifier(config)
    torch.nn.init.normal_(classifier.of_target[-1].weight)
    return Fickle(classifier, config, pair)


def likeliest(outcome: Outcome) -> int:
    return outcome.outlook.index(max(outcome.outlook))


class Listening(SpecBranch):
    """Notes what its latest request is told."""

    def begin(self) -> Listening:
        self.outcomes: list[Outcome] = []
        return super().begin()

    def observe(self, outcome: Outcome) -> None:
        super().observe(outcome)
        self.outcomes.append(outcome)

    def lengths(self) -> list[int]:
        """Tokens that each round committed, the last one's excepted."""
        return [outcome.accepted + 1 for outcome in self.outcomes]


@pytest.fixture(scope="module")
def pair():
    return tiny.packed(tiny.pair(noise=0.15, layers=FEATURE_LAYERS + 1))


@pytest.fixture(scope="module")
def hrad(pair) -> HRad:
    return random_hrad(pair)


@pytest.fixture(scope="module")
def engine(pair, hrad) -> Engine:
    lanes = VirtualLanes(CostModel.parse("virtual:c=4"))
    return Engine(pair, Listening(k_max=4, gamma=4), lanes=lanes, hrad=hrad, max_len=128)


@pytest.mark.parametrize("filters", FILTERS)
def test_the_text_is_the_targets_own_whatever_is_foreseen(engine, pair, filters):
    alone = Engine(pair, Autoregressive(), lanes=engine.lanes, max_len=128)
    for prompt in ([5], [7, 3, 9, 30, 12, 40]):
        text = engine.generate(prompt, FILTERS[filters]).token_ids
        assert {likeliest(outcome) for outcome in engine.policy.outcomes} == {0, 1, 2}
        assert text == alone.generate(prompt, FILTERS[filters]).token_ids


def test_threads_write_the_same(engine, pair, hrad):
    with ThreadLanes(1, 1) as lanes:
        threaded = Engine(pair, SpecBranch(k_max=4, gamma=4), lanes=lanes, hrad=hrad, max_len=128)
        generation = threaded.generate([5, 6], FILTERS["T=1"])
    assert generation.token_ids == engine.generate([5, 6], FILTERS["T=1"]).token_ids
    assert 0 < generation.stats.hrad_share < 1
    assert {span.lane for span in generation.trace.spans if span.label == "hrad"} == {"target"}


def test_each_round_foresees_from_where_the_target_stopped_and_what_the_draft_has_below(
    engine, pair, hrad
):
    hrad.blocks.clear()
    recording = record(engine, [7, 3, 9], FILTERS["greedy"])
    told = torch.tensor([outcome.outlook for outcome in engine.policy.outcomes])
    seen = list(hrad.blocks)
    lengths = engine.policy.lengths()
    roots = [sum(lengths[: place + 1]) - 1 for place in range(len(lengths))]
    runner = ModelRunner(pair.target, max_len=64, max_nodes=16, feature_layers=FEATURE_LAYERS)
    features = text_features(runner, recording.prompt, recording.text)[roots]
    tokens = [recording.text[root] for root in roots]
    expected = torch.tensor(hrad.outlooks(features, tokens, seen))
    torch.testing.assert_close(told, expected, atol=1e-3, rtol=0)
    blocks = blocks_of(pair, recording, hrad.config.gamma)
    assert {len(block) for block in seen} >= {0, 2, 4}
    for root, block in zip(roots, seen, strict=True):
        if root < len(blocks) and block:
            whole = torch.tensor(blocks[root][: len(block)])
            torch.testing.assert_close(torch.tensor(block), whole, atol=1e-4, rtol=0)


def test_a_replay_foresees_what_the_engine_does(pair, hrad):
    gamma = hrad.config.gamma
    lanes = VirtualLanes(CostModel.parse("virtual:c=4"))  # of an engine that has learnt nothing yet
    engine = Engine(pair, Listening(k_max=4, gamma=gamma), lanes=lanes, hrad=hrad, max_len=128)
    recording = record(engine, [7, 3, 9], FILTERS["T=1"])
    lengths = engine.policy.lengths()
    blocks = blocks_of(pair, recording, gamma)
    tokens = recording.text[: len(blocks)]
    runner = ModelRunner(pair.target, max_len=64, max_nodes=16, feature_layers=FEATURE_LAYERS)
    features = text_features(runner, recording.prompt, recording.text)[: len(blocks)]
    by_length = [
        hrad.outlooks(features, tokens, [block[:drafted] for block in blocks])
        for drafted in range(gamma + 1)
    ]
    replayer = Replayer(SpecBranch(k_max=4, gamma=gamma), CostModel.parse("virtual:c=4"))
    laws = laws_of(pair, recording)
    replay = replayer.replay(recording, laws, list(zip(*by_length, strict=True)))
    told = [n for n, end in zip(lengths, accumulate(lengths), strict=True) if end <= len(blocks)]
    assert replay.stats.accepted_lengths[: len(told)] == told
    assert len(told) > 10


def laws_of(pair, recording: Recording) -> DraftLaws:
    drafting = DraftModel(ModelRunner(pair.draft, max_len=64, max_nodes=256), 64)
    return DraftLaws(lambda: drafting, recording, LawStore())


def blocks_of(pair, recording: Recording, gamma: int) -> list[tuple[Certainty, ...]]:
    return next_blocks(laws_of(pair, recording), recording, gamma).laws


def test_a_policy_that_does_not_read_it_does_not_pay(pair, hrad):
    lanes = VirtualLanes(CostModel.parse("virtual:c=4"))
    engine = Engine(pair, Autoregressive(), lanes=lanes, hrad=hrad, max_len=128)
    generation = engine.generate([5], SamplingParams(max_new_tokens=4))
    assert not [span for span in generation.trace.spans if span.label == "hrad"]


def test_a_classifier_for_other_blocks_is_refused(pair, hrad):
    with pytest.raises(ValueError, match="gamma: expected 4, which hrad was trained for, got 3"):
        Engine(pair, SpecBranch(gamma=3), hrad=hrad)


@pytest.mark.long
def test_rejection_sampled_sequences_have_the_targets_law():
    """What is kept depends on the text so far and on the draft's laws, not on what was drawn."""
    sizes = {"seed": 5, "vocab_size": VOCAB, "sharpness": 1.0, "layers": FEATURE_LAYERS + 1}
    pair = tiny.pair(noise=0.4, **sizes)
    lanes = VirtualLanes(CostModel.parse("virtual:c=3"))
    listening = Listening(k_max=3, gamma=3)
    hrad = random_hrad(pair, gamma=3)
    engine = Engine(pair, listening, lanes=lanes, hrad=hrad, max_len=32, max_nodes=32)
    counts: Counter[tuple[int, ...]] = Counter()
    foreseen: set[int] = set()
    for seed in range(RUNS):
        params = SamplingParams(**REJECTION, seed=seed, max_new_tokens=LENGTH)
        counts[tuple(engine.generate(PROMPT, params).token_ids)] += 1
        foreseen |= {likeliest(outcome) for outcome in engine.policy.outcomes if outcome.hit}
    assert foreseen == {0, 1, 2}
    law = exact_law(tiny.model(**sizes), SamplingParams(**REJECTION))
    assert p_value(counts, law) > SIGNIFICANCE
