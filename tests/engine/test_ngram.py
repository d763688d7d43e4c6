"""Guesses from the text itself: the target's own text again, whoever guesses beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from specbranch._C import Tree
from specbranch.costs.model import CostModel
from specbranch.engine import Engine
from specbranch.lanes import ThreadLanes, VirtualLanes
from specbranch.policies import Autoregressive, BestFirst, Policy, SpeculativeSampling
from specbranch.policies.base import Outcome
from specbranch.sampling import SamplingParams
from specbranch.sources.model import ModelSource
from specbranch.sources.ngram import NGramSource
from tests.engine import tiny
from tests.engine.test_identity import POLICIES, params_of
from tests.engine.test_many import texts

SOURCES = ("ngram", "model+ngram")
PHRASE = [7, 3, 9, 30, 12, 40, 21]
PROMPTS = [[5], PHRASE * 4, [*range(10, 40), *PHRASE, *range(10, 20)]]


@pytest.fixture(scope="module")
def pair():
    return tiny.packed(tiny.pair(seed=15, noise=0.15))


def engine_of(pair, policy, source: str = "ngram", **options: object) -> Engine:
    lanes = VirtualLanes(CostModel.parse("virtual:c=4"))
    return Engine(pair, policy, source=source, lanes=lanes, max_len=256, **options)


@pytest.fixture(scope="module")
def plain(pair):
    """Texts of the target alone, each written once."""
    engine, texts = engine_of(pair, Autoregressive()), {}

    def text(prompt: list[int], params: SamplingParams) -> list[int]:
        key = (*prompt, repr(params))
        if key not in texts:
            texts[key] = engine.generate(prompt, params).token_ids
        return texts[key]

    return text


@pytest.mark.parametrize(
    "filters", ["greedy", pytest.param("T=0.7", marks=pytest.mark.long), "all"]
)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_writes_what_the_target_alone_writes(pair, plain, policy, source, filters):
    engine, params = engine_of(pair, POLICIES[policy](), source), params_of(filters)
    expected = [plain(prompt, params) for prompt in PROMPTS]
    assert [engine.generate(prompt, params).token_ids for prompt in PROMPTS] == expected
    together = engine.generate(PROMPTS, params)
    assert [generation.token_ids for generation in together] == expected


@pytest.mark.parametrize("max_nodes", [3, 7])
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("policy", POLICIES)
def test_a_tiny_block_still_makes_progress(pair, plain, policy, source, max_nodes):
    engine = engine_of(pair, POLICIES[policy](), source, max_nodes=max_nodes)
    params = params_of("T=0.7", max_new_tokens=24)
    assert engine.generate(PROMPTS[1], params).token_ids == plain(PROMPTS[1], params)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("policy", ["pearl", "bestfirst", "auto"])
def test_threads_write_what_the_virtual_clock_writes(pair, plain, policy, source):
    with ThreadLanes(1, 1) as lanes:
        engine = Engine(pair, POLICIES[policy](), source=source, lanes=lanes, max_len=256)
        for params in (params_of("greedy"), params_of("all")):
            assert engine.generate(PROMPTS[1], params).token_ids == plain(PROMPTS[1], params)


@pytest.mark.parametrize("policy", POLICIES)
def test_matched_guesses_leave_the_draws_of_rejection_alone(pair, plain, policy):
    """Nothing is drawn from a draft, so the target draws what it draws in plain decoding."""
    engine, params = engine_of(pair, POLICIES[policy]()), params_of("all", coupling="rejection")
    for prompt in PROMPTS:
        assert engine.generate(prompt, params).token_ids == plain(prompt, params)


def test_couplings_live_side_by_side(pair):
    """A request that draws beside matched guesses goes on as it does alone, and as before."""
    wanted = [
        (PROMPTS[1], params_of("T=1", coupling=coupling))
        for coupling in ("rejection", "gumbel", "rejection")
    ]
    engine = engine_of(pair, SpeculativeSampling(gamma=4), "model+ngram")
    alone = [engine.generate(*each).token_ids for each in wanted]
    assert texts(engine, wanted) == alone
    assert alone[0] == alone[2] != alone[1]


@pytest.mark.parametrize("eos_at", [0, 7, 20])
def test_a_guess_that_ends_the_request_ends_it_there(pair, plain, eos_at):
    whole = plain(PROMPTS[1], params_of("T=0.7"))
    params = params_of("T=0.7", eos_token_ids={whole[eos_at]})
    generation = engine_of(pair, BestFirst()).generate(PROMPTS[1], params)
    assert generation.token_ids == whole[: whole.index(whole[eos_at]) + 1]


def test_repetitions_are_found(pair):
    engine = engine_of(pair, SpeculativeSampling(gamma=6))
    stats = engine.generate(PROMPTS[1], params_of("greedy", max_new_tokens=120)).stats
    assert stats.draft_forwards > 0
    assert stats.mean_accepted_length > 1.5


def test_no_draft_is_loaded_or_run(pair):
    lonely = replace(pair, draft=pair.target)
    engine = engine_of(lonely, BestFirst())
    generation = engine.generate(PROMPTS[1], params_of("greedy"))
    assert not [span for span in generation.trace.spans if span.lane == "draft"]


def test_a_policy_may_ask_nothing_of_it(pair, plain):
    params = params_of("T=0.7")
    stats = engine_of(pair, Autoregressive()).generate(PROMPTS[1], params).stats
    assert stats.draft_forwards == 0
    assert stats.mean_accepted_length == 1


@pytest.mark.parametrize("given", ["ngrams", 3, None])
def test_an_unknown_source_is_refused(pair, given):
    with pytest.raises(ValueError, match=r"^source: expected one of model, ngram, model.ngram"):
        engine_of(pair, BestFirst(), given)


@pytest.mark.parametrize("given", [{"max_n": 0}, {"fan": 0}, {"max_nodes": 1.5}])
def test_bad_sizes_are_refused(given):
    (name,) = given
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        NGramSource(**given)


class NowAndThen(SpeculativeSampling):
    """Has the draft work in every fourth round only."""

    rounds = 0

    def grow(self, tree: Tree, busy: bool, step: int) -> Sequence[int]:
        drafting = self.rounds % 4 == 3 and not busy and step < 2
        return tree.frontier(3) if drafting else ()

    def stretch(self, tree: Tree, busy: bool, step: int) -> int:
        return 1

    def observe(self, outcome: Outcome) -> None:
        self.rounds += 1


def test_a_draft_catches_up_on_what_was_accepted_without_it(monkeypatch):
    """It is the target itself, so each of its guesses along the text is right, or it has missed
    something."""
    pair = tiny.pair(seed=15, noise=0.0)
    params = params_of("greedy", max_new_tokens=100)
    whole = engine_of(pair, Autoregressive()).generate(PROMPTS[1], params).token_ids
    guess, right, behind = ModelSource.guess, [], []

    def noted(self, lane, wanted, steps):
        ((request, nodes),) = wanted
        if nodes[0] == 0:
            behind.append(len(request.committed) - 1 - request.draft.context_len)
        guesses = guess(self, lane, wanted, steps)
        for node, ids in zip(nodes, guesses.ids, strict=True):
            path = request.tree.tokens(request.tree.path(node))
            place = [*request.committed[len(PROMPTS[1]) :], *path]
            if place == whole[: len(place)] != whole:
                right.append(ids[0] == whole[len(place)])
        return guesses

    monkeypatch.setattr(ModelSource, "guess", noted)
    engine = engine_of(pair, NowAndThen(gamma=6), "model+ngram")
    assert engine.generate(PROMPTS[1], params).token_ids == whole
    assert max(behind) > 4, "chains were accepted that the draft had not computed"
    assert len(right) > 10
    assert all(right)


def test_a_chain_needs_no_draft(pair, plain):
    class Submits(Policy):
        def submit(self, tree: Tree) -> Sequence[int]:
            return tree.main_line()[:8]

    params = params_of("greedy", max_new_tokens=100)
    engine = engine_of(pair, Submits(), "model+ngram")
    generation = engine.generate(PROMPTS[1], params)
    assert generation.token_ids == plain(PROMPTS[1], params)
    stats = generation.stats
    assert stats.draft_forwards == 0
    assert stats.mean_accepted_length > 1.5
    assert 0 < stats.accepted_matched == stats.accepted_main + stats.accepted_branch
