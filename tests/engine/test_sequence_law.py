"""Under rejection sampling, whole sequences have exactly the target's law, for every policy."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats

from specbranch import reference, verifier
from specbranch.costs.model import CostModel
from specbranch.engine import Engine
from specbranch.lanes import VirtualLanes
from specbranch.loading import ModelPair
from specbranch.models.sampling_rows import SamplingRows
from specbranch.policies import Autoregressive, BestFirst
from specbranch.sampling import SamplingParams
from specbranch.sources import Guesses
from specbranch.sources.model import ModelSource
from specbranch.tree import write_questions
from specbranch.verifier import Verifier
from tests.engine import tiny
from tests.engine.by_hand import ruled
from tests.engine.test_identity import POLICIES

VOCAB, LENGTH, RUNS = 5, 3, 700
PROMPT = [2, 4]
GUMBEL = {"temperature": 0.9, "top_k": 4, "top_p": 0.97}
REJECTION = {**GUMBEL, "coupling": "rejection"}
# Each test rejects a true law with this probability; a dozen tests make a false alarm once in 800.
SIGNIFICANCE = 1e-4


def loose() -> ModelPair:
    """The pair as transformers has it, whose weights can be changed."""
    return tiny.pair(seed=5, noise=0.5, vocab_size=VOCAB, sharpness=1.0)


@pytest.fixture(scope="module")
def pair():
    return tiny.packed(loose())


@pytest.fixture(scope="module")
def eager(pair):
    return tiny.model(seed=5, vocab_size=VOCAB, sharpness=1.0)


@pytest.fixture
def repeating(monkeypatch):
    """A prompt whose end was there before, and went on in two ways."""
    monkeypatch.setattr(f"{__name__}.PROMPT", [2, 4, 1, 3, 2, 4, 0, 2, 4])


def exact_law(
    eager, params: SamplingParams, prompt: list[int] | None = None
) -> dict[tuple[int, ...], float]:
    """The chance of every sequence, by enumerating the target's filtered laws."""
    filters = SamplingRows(1, torch.device("cpu")).send([(params, [0])]).filters
    law: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(LENGTH):
        longer = {}
        for sequence, chance in law.items():
            with torch.inference_mode():
                logits = eager(torch.tensor([[*(prompt or PROMPT), *sequence]])).logits[0, -1]
            logits = ruled(logits, prompt or PROMPT, sequence, params)
            probs = reference.sampling_probs(logits[None], *filters)[0].tolist()
            longer |= {(*sequence, token): chance * p for token, p in enumerate(probs) if p > 0}
        law = longer
    return law


def p_value(counts: Counter, law: dict[tuple[int, ...], float]) -> float:
    """Chi-square of the counts against the law; rare sequences share one cell."""
    assert set(counts) <= set(law), "a sequence that the target never writes"
    expected = np.array([law[key] for key in law]) * counts.total()
    observed = np.array([counts[key] for key in law])
    rare = expected < 5
    expected = np.append(expected[~rare], expected[rare].sum())
    observed = np.append(observed[~rare], observed[rare].sum())
    used = expected > 0
    return stats.chisquare(observed[used], expected[used] * observed.sum() / expected.sum()).pvalue


def sampled(pair, policy, params: dict, runs: int = RUNS, *, source: str = "model") -> Counter:
    lanes = VirtualLanes(CostModel.parse("virtual:c=3"))
    engine = Engine(pair, policy, source=source, lanes=lanes, max_len=32, max_nodes=32)
    return Counter(
        tuple(
            engine.generate(
                PROMPT, SamplingParams(**params, seed=seed, max_new_tokens=LENGTH)
            ).token_ids
        )
        for seed in range(runs)
    )


AT_ONCE = ("specbranch", "random-1")


@pytest.mark.parametrize(
    "policy",
    [
        policy if policy in AT_ONCE else pytest.param(policy, marks=pytest.mark.long)
        for policy in POLICIES
    ],
)
def test_rejection_sampled_sequences_have_the_targets_law(pair, eager, policy):
    counts = sampled(pair, POLICIES[policy](), REJECTION)
    assert p_value(counts, exact_law(eager, SamplingParams(**REJECTION))) > SIGNIFICANCE


@pytest.mark.parametrize("source", ["ngram", "model+ngram"])
@pytest.mark.parametrize("policy", [pytest.param("bestfirst", marks=pytest.mark.long), "random-1"])
def test_guesses_from_the_text_keep_the_law(repeating, pair, eager, policy, source):
    counts = sampled(pair, POLICIES[policy](), REJECTION, source=source)
    assert p_value(counts, exact_law(eager, SamplingParams(**REJECTION))) > SIGNIFICANCE


def test_the_check_notices_guesses_from_the_text_tested_as_draws(
    repeating, pair, eager, monkeypatch
):
    """They are no draws from any law, whatever law is stated for them."""

    def numbered(trees, candidates, parents, n_nodes, draw):
        write_questions(trees, candidates, parents, n_nodes, draw)
        for b in range(len(trees)):
            above = parents[b, : n_nodes[b]].tolist()
            draw[b, : len(above)] = [above[:i].count(parent) + 1 for i, parent in enumerate(above)]

    stated = Verifier._laws
    monkeypatch.setattr(Verifier, "_laws", lambda *args: torch.full_like(stated(*args), 1 / VOCAB))
    monkeypatch.setattr(verifier, "write_questions", numbered)
    counts = sampled(pair, POLICIES["sps"](), REJECTION, runs=300, source="ngram")
    law = exact_law(eager, SamplingParams(**REJECTION))
    assert p_value(counts, law | missing(law)) < SIGNIFICANCE


def test_gumbel_sampled_sequences_have_the_targets_law(pair, eager):
    counts = sampled(pair, POLICIES["bestfirst"](), GUMBEL)
    assert p_value(counts, exact_law(eager, SamplingParams(**GUMBEL))) > SIGNIFICANCE


LACKING = {
    "narrower draft": lambda draft: tiny.with_vocabulary(draft, VOCAB - 1),
    "narrower head": lambda draft: tiny.with_tokens(draft, [3, 0, 4, 1]),
}


@pytest.mark.long
@pytest.mark.parametrize("lacking", LACKING)
def test_a_draft_that_lacks_a_token_changes_no_law(pair, eager, lacking):
    narrower = dataclasses.replace(pair, draft=LACKING[lacking](loose().draft))
    counts = sampled(narrower, POLICIES["bestfirst"](), REJECTION)
    assert p_value(counts, exact_law(eager, SamplingParams(**REJECTION))) > SIGNIFICANCE


def without(token: int, guesses: Guesses) -> Guesses:
    """The guesses less one token, those behind it moved up."""
    ids, estimates = np.full_like(guesses.ids, -1), np.zeros_like(guesses.estimates)
    for row, drawn in enumerate(guesses.ids):
        kept = drawn != token
        ids[row, : kept.sum()] = drawn[kept]
        estimates[row, : kept.sum()] = guesses.estimates[row][kept]
    return guesses._replace(ids=ids, estimates=estimates)


def test_the_check_notices_dropped_draws(pair, eager, monkeypatch):
    """A draw that is dropped because of what it is, which no one may, biases the rest."""
    guess = ModelSource.guess
    monkeypatch.setattr(ModelSource, "guess", lambda *args: without(2, guess(*args)))
    counts = sampled(pair, BestFirst(), REJECTION, runs=300)
    assert p_value(counts, exact_law(eager, SamplingParams(**REJECTION))) < SIGNIFICANCE


def test_the_check_notices_draws_from_another_law_than_stated(pair, eager, monkeypatch):
    """A draw is accepted by the ratio of its chances, so a wrong one of them must show."""
    stated = Verifier._laws
    monkeypatch.setattr(Verifier, "_laws", lambda *args: torch.full_like(stated(*args), 1 / VOCAB))
    counts = sampled(pair, POLICIES["sps"](), REJECTION, runs=300)
    law = exact_law(eager, SamplingParams(**REJECTION))
    assert p_value(counts, law | missing(law)) < SIGNIFICANCE


def test_the_check_notices_noise_used_again_in_the_next_round(pair, eager, monkeypatch):
    """As if it depended on a node's depth below the root instead of its position in the text."""
    verify = verifier.ops.verify_tree_out

    def reused(*arguments):
        *before, position = arguments[:11]
        verify(*before, torch.ones_like(position), *arguments[11:])

    monkeypatch.setattr(verifier.ops, "verify_tree_out", reused)
    counts = sampled(pair, Autoregressive(), REJECTION, runs=300)
    law = exact_law(eager, SamplingParams(**REJECTION))
    assert p_value(counts, law | missing(law)) < SIGNIFICANCE


MATES = [PROMPT, [4, 2]]


def seeds_of(seed: int) -> tuple[int, int]:
    """Of two requests of a batch."""
    return seed, seed + 1


def sampled_together(pair, policy, runs: int) -> list[Counter]:
    """Sequences of two requests in one batch, each with a seed of its own, and of both as one."""
    lanes = VirtualLanes(CostModel.parse("virtual:c=3"))
    engine = Engine(pair, policy, lanes=lanes, max_requests=2, max_len=32, max_nodes=32)
    counts: list[Counter] = [Counter(), Counter(), Counter()]
    for seed in range(0, 2 * runs, 2):
        params = [
            SamplingParams(**REJECTION, seed=each, max_new_tokens=LENGTH) for each in seeds_of(seed)
        ]
        texts = [tuple(each.token_ids) for each in engine.generate(MATES, params)]
        counts[0][texts[0]] += 1
        counts[1][texts[1]] += 1
        counts[2][texts[0][0], texts[1][0]] += 1
    return counts


@pytest.fixture(scope="module")
def laws_together(eager):
    """Of each of the two, and of both first tokens as if they knew nothing of each other."""
    each = [exact_law(eager, SamplingParams(**REJECTION), prompt) for prompt in MATES]
    firsts: list[Counter] = [Counter(), Counter()]
    for law, first in zip(each, firsts, strict=True):
        for sequence, chance in law.items():
            first[sequence[0]] += chance
    pairs = itertools.product(firsts[0].items(), firsts[1].items())
    return [*each, {(a, b): p * q for (a, p), (b, q) in pairs}]


@pytest.mark.parametrize(
    "policy",
    [
        "random-1",
        *(pytest.param(name, marks=pytest.mark.long) for name in ("specbranch", "bestfirst")),
    ],
)
def test_two_requests_in_one_batch_have_their_own_laws(pair, laws_together, policy):
    counts = sampled_together(pair, POLICIES[policy](), 500)
    for found, law in zip(counts, laws_together, strict=True):
        assert p_value(found, law) > SIGNIFICANCE


def test_the_check_notices_laws_a_row_off(pair, laws_together, monkeypatch):
    """Each row's guesses tested against the law of the row before, the first against the last of
    the other request."""
    stated = Verifier._laws
    monkeypatch.setattr(Verifier, "_laws", lambda *args: stated(*args).roll(1, 0))
    counts = sampled_together(pair, POLICIES["sps"](), 300)
    wrong = [p_value(counts[n], law | missing(law)) for n, law in enumerate(laws_together[:2])]
    assert min(wrong) < SIGNIFICANCE


def test_the_check_notices_noise_that_is_shared(pair, laws_together, monkeypatch):
    monkeypatch.setattr(f"{__name__}.seeds_of", lambda seed: (seed, seed))
    *each, both = sampled_together(pair, POLICIES["sps"](), 300)
    assert p_value(both, laws_together[2]) < SIGNIFICANCE
    for counts, law in zip(each, laws_together, strict=False):
        assert p_value(counts, law) > SIGNIFICANCE


def missing(law: dict[tuple[int, ...], float]) -> dict[tuple[int, ...], float]:
    """The sequences that the target never writes, as all but impossible ones."""
    every = itertools.product(range(VOCAB), repeat=LENGTH)
    return {sequence: 1e-9 for sequence in every if sequence not in law}
