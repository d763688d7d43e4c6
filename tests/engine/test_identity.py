"""Whatever the policy, the draft and the timing: the text is the target's own, token for token."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import pytest
import torch
from transformers import LlamaForCausalLM

from bench.random_policy import RandomPolicy
from specbranch.costs.model import CostModel
from specbranch.engine import Engine
from specbranch.lanes import ThreadLanes, VirtualLanes
from specbranch.policies import (
    PEARL,
    SSD,
    AdaEDL,
    Auto,
    Autoregressive,
    BestFirst,
    Policy,
    SpecBranch,
    SpeculativeSampling,
)
from specbranch.sampling import SamplingParams
from tests.engine import tiny

POLICIES: dict[str, Callable[[], Policy]] = {
    "sps": lambda: SpeculativeSampling(gamma=4),
    "adaedl": lambda: AdaEDL(gamma=6),
    "pearl": lambda: PEARL(gamma=4),
    "specbranch": lambda: SpecBranch(k_max=4, gamma=5),
    "specbranch-any-outlook": lambda: tiny.AnyOutlook(k_max=4, gamma=4),
    "ssd": lambda: SSD(fan_out=3, gamma=4, backup=2),
    "bestfirst": BestFirst,
    "bestfirst-wide": lambda: BestFirst(rows_draft=16, rows_target=64, min_estimate=1e-6),
    "auto": Auto,
    "random-1": lambda: RandomPolicy(1),
    "random-2": lambda: RandomPolicy(2),
}
FILTERS = {
    "greedy": SamplingParams(),
    "T=1": SamplingParams(temperature=1.0),
    "T=1.3": SamplingParams(temperature=1.3),
    "T=0.7": SamplingParams(temperature=0.7),
    "top-k, top-p": SamplingParams(temperature=1.0, top_k=20, top_p=0.9),
    "min-p": SamplingParams(temperature=0.7, min_p=0.05),
    "all": SamplingParams(temperature=0.7, top_k=30, top_p=0.95, min_p=0.02),
}
PROMPTS = [[5], [7, 3, 9, 30, 12, 40], list(range(10, 40))]
NOISES = [pytest.param(0.05, marks=pytest.mark.long), 0.15]


def params_of(filters: str, **changes: object) -> SamplingParams:
    fields = {name: getattr(FILTERS[filters], name) for name in SamplingParams.__slots__}
    return SamplingParams(**{**fields, "seed": 1234, "max_new_tokens": 40, **changes})


class Runs:
    """Engines over one pair, made once for each policy, on a virtual clock."""

    def __init__(self, noise: float) -> None:
        self.pair = tiny.pair(seed=int(noise * 100), noise=noise)
        self.eager = copy.deepcopy(self.pair.target)
        self._texts: dict[tuple, list[int]] = {}

    def packed(self) -> Runs:
        """With weights as `load_pair` lays them out."""
        tiny.packed(self.pair)
        return self

    def engine(self, policy: Policy, clock: str = "virtual:c=4", **options: object) -> Engine:
        lanes = VirtualLanes(CostModel.parse(clock))
        return Engine(self.pair, policy, lanes=lanes, max_len=256, **options)

    def autoregressive(self, prompt: list[int], filters: str, **changes: object) -> list[int]:
        key = (*prompt, filters, repr(changes))
        if key not in self._texts:
            params = params_of(filters, **changes)
            engine = self.engine(Autoregressive())
            self._texts[key] = engine.generate(prompt, params).token_ids
        return self._texts[key]

    def transformers_greedy(self, prompt: list[int], max_new_tokens: int) -> list[int]:
        output = self.eager.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            pad_token_id=tiny.EOS,
        )
        return output[0, len(prompt) :].tolist()


@pytest.fixture(scope="module", params=NOISES, ids=lambda noise: f"noise={noise}")
def runs(request):
    return Runs(request.param).packed()


@pytest.fixture(scope="module")
def modules():
    """Runs whose models are no single call."""
    return Runs(0.15)


def test_autoregressive_is_transformers_greedy(runs):
    for prompt in PROMPTS:
        assert runs.autoregressive(prompt, "greedy") == runs.transformers_greedy(prompt, 40)


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_writes_what_the_target_alone_writes(runs, policy, filters):
    engine = runs.engine(POLICIES[policy]())
    for prompt in PROMPTS:
        generation = engine.generate(prompt, params_of(filters))
        assert generation.token_ids == runs.autoregressive(prompt, filters)
        assert generation.finish_reason == "length"


@pytest.mark.parametrize("policy", POLICIES)
def test_so_it_does_where_transformers_runs_the_model(modules, policy):
    engine = modules.engine(POLICIES[policy]())
    for filters in ("greedy", "T=1"):
        generation = engine.generate(PROMPTS[1], params_of(filters))
        assert generation.token_ids == modules.autoregressive(PROMPTS[1], filters)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_length_is_kept_exactly(runs, policy):
    engine = runs.engine(POLICIES[policy]())
    whole = runs.autoregressive(PROMPTS[1], "T=1")
    for length in (1, 2, 3, 5, 8, 13):
        generation = engine.generate(PROMPTS[1], params_of("T=1", max_new_tokens=length))
        assert generation.token_ids == whole[:length]


@pytest.mark.parametrize("policy", POLICIES)
def test_eos_inside_an_accepted_block_ends_there(runs, policy):
    whole = runs.autoregressive(PROMPTS[1], "T=1")
    engine = runs.engine(POLICIES[policy]())
    for position in (0, 4, 11, 12, 25):
        eos = whole[position]
        engine.pair = dataclasses.replace(runs.pair, eos_token_ids=frozenset({eos}))
        generation = engine.generate(PROMPTS[1], params_of("T=1"))
        assert generation.token_ids == whole[: whole.index(eos) + 1]
        assert generation.finish_reason == "eos"
        ignoring = engine.generate(PROMPTS[1], params_of("T=1", ignore_eos=True))
        assert ignoring.token_ids == whole
        engine.pair = runs.pair
        asked = engine.generate(PROMPTS[1], params_of("T=1", eos_token_ids={eos}))
        assert asked.token_ids == generation.token_ids


@pytest.mark.parametrize("policy", POLICIES)
def test_a_stop_string_inside_an_accepted_block_ends_there(runs, policy):
    whole = runs.autoregressive(PROMPTS[1], "T=0.7")
    texts = [
        runs.pair.tokenizer.decode(whole[:n], skip_special_tokens=True)
        for n in range(len(whole) + 1)
    ]
    engine = runs.engine(POLICIES[policy]())
    for start in (0, 3, 10, 21):
        stop = texts[-1][start : start + 2]
        generation = engine.generate(PROMPTS[1], params_of("T=0.7", stop=(stop,)))
        assert generation.finish_reason == "stop"
        assert generation.text == texts[-1][: texts[-1].index(stop)]
        completed = next(n for n, text in enumerate(texts) if stop in text)
        assert generation.token_ids == whole[:completed]


@pytest.mark.parametrize("max_nodes", [3, 4, 7])
@pytest.mark.parametrize("policy", POLICIES)
def test_a_tiny_block_still_makes_progress(runs, policy, max_nodes):
    engine = runs.engine(POLICIES[policy](), max_nodes=max_nodes)
    generation = engine.generate(PROMPTS[2], params_of("all"))
    assert generation.token_ids == runs.autoregressive(PROMPTS[2], "all")


@pytest.mark.parametrize("policy", POLICIES)
def test_threads_write_what_the_virtual_clock_writes(runs, policy):
    with ThreadLanes(1, 1) as lanes:
        engine = Engine(runs.pair, POLICIES[policy](), lanes=lanes, max_len=256)
        for filters in ("greedy", "all"):
            for _ in range(2):
                generation = engine.generate(PROMPTS[1], params_of(filters))
                assert generation.token_ids == runs.autoregressive(PROMPTS[1], filters)


@pytest.mark.parametrize("policy", POLICIES)
def test_rejection_coupling_is_greedy_at_temperature_zero(runs, policy):
    engine = runs.engine(POLICIES[policy]())
    generation = engine.generate(PROMPTS[1], params_of("greedy", coupling="rejection"))
    assert generation.token_ids == runs.autoregressive(PROMPTS[1], "greedy")


@pytest.mark.parametrize("policy", POLICIES)
def test_rejection_coupling_is_reproducible_on_the_virtual_clock(runs, policy):
    """Also on an engine that has served before: what it learnt must not change the draws."""
    params = params_of("T=1", coupling="rejection")
    served, fresh = (runs.engine(POLICIES[policy](), "virtual:c=20") for _ in range(2))
    first = served.generate(PROMPTS[1], params).token_ids
    served.generate(PROMPTS[2], params)
    assert served.generate(PROMPTS[1], params).token_ids == first
    assert fresh.generate(PROMPTS[1], params).token_ids == first


UNEVEN: dict[str, Callable[[LlamaForCausalLM], LlamaForCausalLM]] = {
    "narrower draft": lambda draft: tiny.with_vocabulary(draft, 60),
    "wider draft": lambda draft: tiny.with_vocabulary(draft, 72),
    "narrower head": lambda draft: tiny.with_tokens(draft, range(58, 2, -1)),
}


@pytest.fixture(scope="module", params=UNEVEN)
def uneven(request):
    """A draft that lacks tokens of the target, that has some beyond them, or that knows all but
    guesses some only, in an order of its own."""
    runs = Runs(0.15)
    draft = UNEVEN[request.param](runs.pair.draft)
    runs.pair = dataclasses.replace(runs.pair, draft=draft)
    return runs.packed()


@pytest.mark.parametrize("policy", POLICIES)
def test_a_draft_of_another_vocabulary_changes_nothing(uneven, policy):
    engine = uneven.engine(POLICIES[policy]())
    for prompt in [*PROMPTS, [61, 63]]:
        generation = engine.generate(prompt, params_of("T=1.3"))
        assert generation.token_ids == uneven.autoregressive(prompt, "T=1.3")


def test_a_narrow_heads_guesses_are_tokens_of_the_target():
    """With the target's own layers they are right, but where the head lacks the token."""
    runs = Runs(0.0)
    draft = tiny.with_tokens(runs.pair.draft, range(63, 19, -1))
    runs.pair = dataclasses.replace(runs.pair, draft=draft)
    engine = runs.engine(SpeculativeSampling(gamma=4))
    assert engine.generate(PROMPTS[1], params_of("greedy")).stats.acceptance_rate > 0.8


def test_the_target_says_what_a_narrower_draft_cannot(uneven):
    said = {token for prompt in PROMPTS for token in uneven.autoregressive(prompt, "T=1.3")}
    assert said & {60, 61, 62, 63}


def test_another_seed_writes_another_text(runs):
    texts = {tuple(runs.autoregressive(PROMPTS[0], "T=1", seed=seed)) for seed in range(5)}
    assert len(texts) == 5


def test_drafts_agree_enough_for_these_tests_to_bite(runs):
    """Accepted paths, hits and rollbacks must all occur, or identity would prove little."""
    engine = runs.engine(BestFirst())
    stats = engine.generate(PROMPTS[1], params_of("T=1")).stats
    assert stats.mean_accepted_length > 1.3
    assert 0.2 < stats.acceptance_rate < 1
    assert stats.hit_rate > 0.2
    assert 0 < stats.branch_waste < 1
