"""Penalties, biases and log-probabilities from a shell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from specbranch.engine import Engine
from specbranch.loading.pair import load_pair
from specbranch.policies import make_policy
from specbranch.sampling import SamplingParams
from tests.cli.conftest import Invoke
from tests.engine import tiny

RULES = {
    "frequency_penalty": 0.5,
    "presence_penalty": -0.25,
    "repetition_penalty": 1.25,
    "min_new_tokens": 4,
    "logit_bias": {5: 2.5, 7: float("-inf")},
    "logprobs": 2,
}
OPTIONS = (
    *("--frequency-penalty", "0.5", "--presence-penalty", "-0.25", "--repetition-penalty", "1.25"),
    *("--min-new-tokens", "4", "--logit-bias", "5=2.5", "--logit-bias", "7=-inf"),
    *("--logprobs", "2"),
)


def generate(invoke: Invoke, path: Path, *options: str) -> tuple[dict[str, Any], str]:
    """What the run's JSON has, and what was said beside the text."""
    result = invoke("generate", "hello", "-n", "24", "--json", str(path), *options)
    assert result.exit_code == 0, result.output
    return json.loads(path.read_text(), parse_constant=pytest.fail), result.stderr


def test_rules_are_those_of_the_request(
    invoke: Invoke, tmp_path: Path, folders: tuple[Path, Path]
) -> None:
    run, _ = generate(invoke, tmp_path / "run.json", *OPTIONS)
    with Engine(load_pair(*map(str, folders)), make_policy("ar")) as engine:
        wanted = engine.generate("hello", SamplingParams(max_new_tokens=24, **RULES))
        plain = engine.generate("hello", SamplingParams(max_new_tokens=24))
    assert run["token_ids"] == wanted.token_ids != plain.token_ids
    assert run["sampling"] == {
        **run["sampling"],
        **RULES,
        "logit_bias": {"5": 2.5, "7": "-inf"},
        "json_schema": None,
    }


def test_logprobs_are_told_of_each_token(invoke: Invoke, tmp_path: Path) -> None:
    run, said = generate(invoke, tmp_path / "run.json", "--logprobs", "2")
    told = run["logprobs"]
    assert [each["token_id"] for each in told] == run["token_ids"]
    assert all(len(each["top"]) == 2 for each in told)
    for each, line in zip(told, said.splitlines()[-25:-1], strict=True):
        token, logprob, best = line.split(maxsplit=2)
        assert token == repr(tiny.VOCAB[each["token_id"]])
        assert logprob == f"{each['logprob']:.2f}"
        likeliest = next(iter(each["top"].items()))
        assert best.startswith(f"{tiny.VOCAB[int(likeliest[0])]!r} {likeliest[1]:.2f}, ")
    silent, nothing = generate(invoke, tmp_path / "silent.json")
    assert "logprobs" not in silent
    assert len(nothing.splitlines()) == len(said.splitlines()) - 24
