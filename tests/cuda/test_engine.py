"""The engine on a GPU: texts, graphs, overlap, and where the host waits."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
import torch

from bench import synthetic
from bench.synthetic import pair_of
from specbranch.comparison.divergence import ar_margin, first_difference
from specbranch.engine import Engine
from specbranch.generation import Generation
from specbranch.lanes import StreamLanes
from specbranch.loading.pair import ModelPair
from specbranch.models import runner as runner_module
from specbranch.models.cuda_graphs import CapturedForward
from specbranch.policies import PEARL, Autoregressive
from specbranch.sampling import SamplingParams
from tests.cuda.on_device import GPU
from tests.engine import tiny
from tests.engine.test_identity import POLICIES, PROMPTS, params_of

NEAR_TIE = 1e-3
"""Forwards of different row counts round differently; texts may part at scores this near."""
SETTINGS = ("greedy", "T=1", "all")


def on_gpu(pair: ModelPair) -> ModelPair:
    return dataclasses.replace(pair, target=pair.target.to(GPU), draft=pair.draft.to(GPU))


@pytest.fixture(scope="module")
def pair() -> ModelPair:
    return on_gpu(tiny.pair(noise=0.15))


@pytest.fixture(scope="module")
def written_alone(pair) -> dict[str, Generation]:
    engine = Engine(pair, Autoregressive(), max_len=256)
    return {name: engine.generate(PROMPTS[1], params_of(name)) for name in SETTINGS}


@pytest.fixture(params=["graphs", "eager"])
def graphs(request, monkeypatch) -> str:
    if request.param == "eager":
        monkeypatch.setattr(runner_module, "prepared", lambda forward, *_: forward)
    return request.param


def assert_same_text(
    pair: ModelPair,
    found: Generation,
    alone: Generation,
    params: SamplingParams,
    near_tie: float = NEAR_TIE,
) -> None:
    position = first_difference(found.token_ids, alone.token_ids)
    if position is not None:
        margin = ar_margin(pair, alone, position, params)
        assert margin is not None
        assert abs(margin) < near_tie


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_writes_what_the_target_alone_writes(
    pair, written_alone, graphs, policy, setting
):
    params = params_of(setting)
    with Engine(pair, POLICIES[policy](), max_len=256) as engine:
        assert isinstance(engine.lanes, StreamLanes)
        for _ in range(2):
            generation = engine.generate(PROMPTS[1], params)
            assert_same_text(pair, generation, written_alone[setting], params)


def test_the_gpu_writes_what_the_cpu_writes(pair, written_alone):
    """The noise is the same bits on both, so only near ties may tell the texts apart."""
    engine = Engine(tiny.pair(noise=0.15), Autoregressive(), max_len=256)
    for name in SETTINGS:
        on_cpu = engine.generate(PROMPTS[1], params_of(name))
        assert_same_text(pair, on_cpu, written_alone[name], params_of(name))


@pytest.mark.parametrize("policy", ["sps", "pearl", "bestfirst"])
def test_texts_in_bfloat16_part_at_near_ties_only(graphs, policy):
    """Heads of 64 in 16 bits: attention on tensor cores."""
    small = synthetic.random_llama({**synthetic.TINY, "hidden_size": 256}, GPU, torch.bfloat16)
    pair = pair_of(synthetic.costlier_twin(small, 2), small, "the target's weights")
    params = params_of("greedy")
    alone = Engine(pair, Autoregressive(), max_len=256).generate(PROMPTS[2], params)
    with Engine(pair, POLICIES[policy](), max_len=256) as engine:
        found = engine.generate(PROMPTS[2], params)
    assert_same_text(pair, found, alone, params, near_tie=0.25)
    assert found.stats.acceptance_rate > 0.5


@pytest.mark.parametrize("policy", ["sps", "bestfirst"])
def test_rejection_coupling_runs(pair, policy):
    params = params_of("T=1", coupling="rejection")
    with Engine(pair, POLICIES[policy](), max_len=256) as engine:
        assert len(engine.generate(PROMPTS[1], params).token_ids) == params.max_new_tokens


def test_forwards_are_captured(pair, monkeypatch, recwarn):
    made = []

    def noted(*arguments):
        made.append(prepared(*arguments))
        return made[-1]

    prepared = runner_module.prepared
    monkeypatch.setattr(runner_module, "prepared", noted)
    with Engine(pair, POLICIES["bestfirst"](), max_len=256) as engine:
        engine.generate(PROMPTS[1], params_of("greedy"))
    assert len(made) == 2
    for forward in made:
        assert isinstance(forward, CapturedForward)
        assert forward._graphs
    assert not [warning for warning in recwarn if "CUDA graphs" in str(warning.message)]


def test_a_model_that_cannot_be_captured_runs_eagerly():
    """One whose Python waits for the GPU: a capture refuses it, and all goes on."""
    program = [sys.executable, "-m", "tests.cuda.uncapturable"]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_lanes_overlap(pair):
    """The draft drafts while the target, here of many layers, checks."""
    deep = dataclasses.replace(pair, target=synthetic.costlier_twin(pair.target, 12))
    with Engine(deep, PEARL(gamma=4), max_len=256) as engine:
        for _ in range(2):
            generation = engine.generate(PROMPTS[1], params_of("greedy"))
    assert generation.stats.overlap > 0
    forwards = [span for span in generation.trace.spans if span.label == "target"]
    assert len(forwards) == generation.stats.target_forwards
    assert all(span.end > span.start >= 0 for span in generation.trace.spans)


def test_steady_rounds_never_wait_implicitly(pair):
    """No blocking copy and no `.item()`: torch itself would tell."""
    with Engine(pair, POLICIES["bestfirst"](), max_len=256) as engine:
        engine.generate(PROMPTS[1], params_of("all"))
        stream = engine.stream(PROMPTS[1], params_of("all"))
        next(stream)
        torch.cuda.set_sync_debug_mode("error")
        try:
            chunks = [next(stream) for _ in range(3)]
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert all(chunk.token_ids for chunk in chunks)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_draft_and_target_on_two_gpus(written_alone):
    apart = tiny.pair(noise=0.15)
    apart = dataclasses.replace(
        apart, target=apart.target.to("cuda:0"), draft=apart.draft.to("cuda:1")
    )
    for coupling in ("gumbel", "rejection"):
        params = params_of("greedy", coupling=coupling)
        with Engine(apart, POLICIES["bestfirst"](), max_len=256) as engine:
            found = engine.generate(PROMPTS[1], params)
        assert_same_text(apart, found, written_alone["greedy"], params)
