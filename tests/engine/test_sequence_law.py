"""Under rejection sampling, whole sequences have exactly the target's law, for every policy."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats

from specbranch import reference
from specbranch.engine import Engine
from specbranch.lanes import CostModel, VirtualLanes
from specbranch.sampling import SamplingParams
from tests.engine import tiny
from tests.engine.test_identity import POLICIES

VOCAB, LENGTH, RUNS = 5, 3, 1000
PROMPT = [2, 4]
# Each test rejects a true law with this probability; a dozen tests make a false alarm once in 800.
SIGNIFICANCE = 1e-4


@pytest.fixture(scope="module")
def pair():
    return tiny.pair(seed=5, noise=0.5, vocab_size=VOCAB, sharpness=1.0)


@pytest.fixture(scope="module")
def eager(pair):
    return tiny.model(seed=5, vocab_size=VOCAB, sharpness=1.0)


def exact_law(eager, params: SamplingParams) -> dict[tuple[int, ...], float]:
    """The chance of every sequence, by enumerating the target's filtered laws."""
    filters = params.filters(1, torch.device("cpu"))
    law: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(LENGTH):
        longer = {}
        for sequence, chance in law.items():
            with torch.inference_mode():
                logits = eager(torch.tensor([[*PROMPT, *sequence]])).logits[0, -1:]
            probs = reference.sampling_probs(logits, *filters)[0].tolist()
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


def sampled(pair, policy, params: dict, runs: int = RUNS) -> Counter:
    lanes = VirtualLanes(CostModel.parse("virtual:c=3"))
    engine = Engine(pair, policy, lanes=lanes, max_len=32, max_nodes=32)
    return Counter(
        tuple(
            engine.generate(
                PROMPT, SamplingParams(**params, seed=seed, max_new_tokens=LENGTH)
            ).token_ids
        )
        for seed in range(runs)
    )


@pytest.mark.parametrize("policy", POLICIES)
def test_rejection_sampled_sequences_have_the_targets_law(pair, eager, policy):
    params = {"temperature": 0.9, "top_k": 4, "top_p": 0.97, "coupling": "rejection"}
    counts = sampled(pair, POLICIES[policy](), params)
    assert p_value(counts, exact_law(eager, SamplingParams(**params))) > SIGNIFICANCE


def test_gumbel_sampled_sequences_have_the_targets_law(pair, eager):
    params = {"temperature": 0.9, "top_k": 4, "top_p": 0.97}
    counts = sampled(pair, POLICIES["bestfirst"](), params)
    assert p_value(counts, exact_law(eager, SamplingParams(**params))) > SIGNIFICANCE


def test_the_check_bites(pair, eager):
    """Sequences of the draft alone, or at a slightly wrong temperature, do not pass."""
    params = {"temperature": 0.9, "top_k": 4, "top_p": 0.97}
    law = exact_law(eager, SamplingParams(**params))
    warmer = sampled(pair, POLICIES["sps"](), {**params, "temperature": 1.6})
    assert p_value(warmer, law | missing(law)) < SIGNIFICANCE


def missing(law):
    every = itertools.product(range(VOCAB), repeat=LENGTH)
    return {sequence: 1e-9 for sequence in every if sequence not in law}
