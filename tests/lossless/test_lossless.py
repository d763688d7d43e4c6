"""The tests for other engines: they find every published mistake, and pass what is right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from specbranch.engine import Engine
from specbranch.lossless import (
    MISTAKES,
    Rule,
    chi_square,
    differences,
    examine,
    speculative,
    text_law,
)
from specbranch.policies import make_policy
from specbranch.sampling import SamplingParams
from tests.engine import tiny

VOCAB, PROMPT = 4, [2, 1]


def law(text: tuple[int, ...]) -> np.ndarray:
    """Depends on the last two tokens."""
    weights = 1 + (np.arange(VOCAB) * (2 * text[-1] + 3 * text[-2] + 1)) % 7
    return weights / weights.sum()


def draft_law(text: tuple[int, ...]) -> np.ndarray:
    weights = 1 + (np.arange(VOCAB) * (text[-1] + 2)) % 5
    return weights / weights.sum()


def test_the_law_of_texts_is_a_law():
    exact = text_law(law, PROMPT, 3)
    assert len(exact) == VOCAB**3
    assert sum(exact.values()) == pytest.approx(1)
    assert exact[3, 0, 2] == pytest.approx(law((2, 1))[3] * law((1, 3))[0] * law((3, 0))[2])


def test_chi_square_is_that_of_scipy():
    from scipy import stats

    counts = {(0,): 30, (1,): 45, (2,): 25}
    exact = {(0,): 0.3, (1,): 0.4, (2,): 0.3}
    assert chi_square(counts, exact) == pytest.approx(
        stats.chisquare([30, 45, 25], [30, 40, 30]).pvalue
    )
    assert chi_square({**counts, (3,): 1}, exact) == 0


def test_a_right_decoder_passes_and_every_mistake_is_seen():
    report = examine(speculative(Rule(), law, draft_law), law, PROMPT, draft_law=draft_law)
    assert report.lossless, report.p_values
    assert report.unseen == []
    assert set(report.mistakes) == set(MISTAKES)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_decoder_that_makes_a_mistake_does_not_pass(name: str):
    report = examine(speculative(MISTAKES[name], law, draft_law), law, PROMPT, runs=3000)
    assert not report.lossless, report.p_values


def test_numbers_used_twice_are_seen_in_two_rounds_alone():
    """Each round by itself has the right law: tests of one round find nothing."""
    wrong = speculative(MISTAKES["every round has the same random numbers"], law, draft_law)
    assert examine(wrong, law, PROMPT, length=1, draft_law=draft_law).lossless


def test_too_few_runs_are_said():
    report = examine(speculative(Rule(), law, draft_law), law, PROMPT, runs=20)
    assert report.unseen


def test_texts_that_part_are_found():
    def plain(prompt: Sequence[int], length: int, seed: int) -> list[int]:
        return [prompt[0]] * length

    def other(prompt: Sequence[int], length: int, seed: int) -> list[int]:
        return [3, 3, 1, 3][:length] if prompt == [3] else plain(prompt, length - prompt[0], seed)

    assert differences(plain, plain, [[1], [2]], 4) == []
    assert differences(other, plain, [[0], [3], [2]], 4) == [(1, 2), (2, 2)]


@pytest.fixture(scope="module")
def pair():
    return tiny.packed(tiny.pair(seed=5, noise=0.5, vocab_size=VOCAB, sharpness=1.0))


def law_of(model: LlamaForCausalLM):  # type: ignore[no-untyped-def]
    known: dict[tuple[int, ...], list[float]] = {}

    @torch.inference_mode()
    def law(text: tuple[int, ...]) -> list[float]:
        if text not in known:
            logits = model(torch.tensor([text]), use_cache=False).logits[0, -1]
            known[text] = logits.double().softmax(-1).tolist()
        return known[text]

    return law


@pytest.mark.parametrize("coupling", ["gumbel", "rejection"])
def test_this_engine_passes(pair, coupling: str):
    target = law_of(tiny.model(seed=5, vocab_size=VOCAB, sharpness=1.0))
    with Engine(pair, make_policy("specbranch"), max_len=32) as engine:

        def decode(prompt: Sequence[int], length: int, seed: int) -> list[int]:
            params = SamplingParams(
                max_new_tokens=length, temperature=1, seed=seed, coupling=coupling
            )
            return engine.generate(list(prompt), params).token_ids

        report = examine(decode, target, PROMPT, runs=400)
    assert report.lossless, report.p_values


@pytest.mark.long
def test_assisted_generation_of_transformers():
    """Equality of greedy texts, and the law of sampled ones."""
    target = tiny.model(seed=5, vocab_size=VOCAB, sharpness=1.0)
    draft = tiny.noisy(target, 0.5)
    for model in (target, draft):
        model.generation_config.eos_token_id = model.generation_config.pad_token_id = None

    def decoder(assistant: LlamaForCausalLM | None, do_sample: bool):  # type: ignore[no-untyped-def]
        def decode(prompt: Sequence[int], length: int, seed: int) -> list[int]:
            torch.manual_seed(seed)
            written = target.generate(
                torch.tensor([[*prompt]]),
                assistant_model=assistant,
                do_sample=do_sample,
                top_k=0,
                max_new_tokens=length,
            )
            return written[0, len(prompt) :].tolist()

        return decode

    prompts = [[a, b] for a in range(VOCAB) for b in range(VOCAB)]
    assert differences(decoder(draft, False), decoder(None, False), prompts, 24) == []
    report = examine(
        decoder(draft, True), law_of(target), PROMPT, runs=2000, draft_law=law_of(draft)
    )
    assert report.lossless, report.p_values
    assert report.unseen == []
