"""The examples run as they stand, with tiny models in place of real ones."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

import specbranch
from specbranch.engine import Engine
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
        with Engine(pair, make_policy(method), max_len=64) as engine:
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
