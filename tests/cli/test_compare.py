"""`specbranch compare` and the figures behind it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from specbranch.comparison import divergence
from specbranch.comparison.divergence import ar_margin, first_difference
from specbranch.comparison.runs import run_once
from specbranch.comparison.session import Session
from specbranch.comparison.summary import summarise
from specbranch.loading.pair import load_pair
from specbranch.policies import POLICIES
from specbranch.sampling import SamplingParams
from tests.cli.conftest import Invoke
from tests.cli.test_generate import RUN_KEYS

SHORT = ("--max-new-tokens", "16")


def compare(invoke: Invoke, tmp_path: Path, *options: str) -> dict[str, Any]:
    out = tmp_path / "compare.json"
    result = invoke("compare", *SHORT, "--json", str(out), *options)
    assert result.exit_code == 0, result.output
    return {"stdout": result.stdout, **json.loads(out.read_text())}


def test_all_methods_are_identical_to_ar(invoke: Invoke, tmp_path: Path, prompt_file: Path) -> None:
    report = compare(invoke, tmp_path, "--prompts", str(prompt_file))
    assert [run["method"] for run in report["runs"]] == [m for m in POLICIES for _ in range(2)]
    assert [run["prompt"] for run in report["runs"][:2]] == ["hello", "speculate now"]
    for run in report["runs"]:
        assert set(run) == RUN_KEYS
        assert run["identical_to_ar"] is True
        assert run["first_divergence"] is None
        assert run["speedup"] > 0
    assert list(report["summary"]) == list(POLICIES)
    assert report["summary"]["ar"]["speedup"] == 1
    for figures in report["summary"].values():
        assert figures["runs"] == figures["identical_runs"] == 2
        assert figures["tokens"] == 32
    for method in POLICIES:
        assert method in report["stdout"]


def test_ar_runs_first_even_if_not_asked_for(invoke: Invoke, tmp_path: Path) -> None:
    report = compare(invoke, tmp_path, "--methods", "sps,pearl", "--limit", "1")
    assert [run["method"] for run in report["runs"]] == ["ar", "sps", "pearl"]


def test_virtual_clock(invoke: Invoke, tmp_path: Path) -> None:
    clock = ("--clock", "virtual:c=10", "--limit", "2")
    report = compare(invoke, tmp_path, "--methods", "sps", "--gamma", "4", *clock)
    ar, sps = report["summary"]["ar"], report["summary"]["sps"]
    assert ar["wall_s"] == 10 * ar["target_forwards"]
    assert sps["wall_s"] == 10 * sps["target_forwards"] + sps["draft_forwards"]
    assert sps["speedup"] == pytest.approx(ar["wall_s"] / sps["wall_s"])
    assert ar["host_s"] > 0
    assert f"{ar['host_s']:.1f}" in report["stdout"]


def test_an_option_goes_to_the_methods_that_know_it(invoke: Invoke, tmp_path: Path) -> None:
    options = ("--methods", "sps,bestfirst", "--rows-target", "3", "--limit", "1")
    summary = compare(invoke, tmp_path, *options)["summary"]
    assert summary["bestfirst"]["mean_accepted_length"] <= 4
    result = invoke("compare", "--methods", "sps", "--rows-target", "3")
    assert result.exit_code == 2
    assert "--rows-target: expected an option of the method" in result.stderr


def test_rejection_sampled_texts_are_not_compared(invoke: Invoke, tmp_path: Path) -> None:
    options = ("--methods", "sps", "--temperature", "1", "--coupling", "rejection", "--limit", "1")
    report = compare(invoke, tmp_path, *options)
    assert {run["identical_to_ar"] for run in report["runs"]} == {None}
    assert "in law" in report["stdout"]


def test_a_bad_prompt_line_is_named(invoke: Invoke, prompt_file: Path) -> None:
    with prompt_file.open("a") as file:
        file.write('{"prompt": 1}\n')
    result = invoke("compare", "--prompts", str(prompt_file))
    assert result.exit_code == 2
    assert "line 3: prompt: expected a non-empty string" in result.stderr


def test_missing_prompt_file(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("compare", "--prompts", str(tmp_path / "none.jsonl"))
    assert result.exit_code == 2
    assert "none.jsonl" in result.stderr


def test_first_difference() -> None:
    assert first_difference([1, 2, 3], [1, 2, 3]) is None
    assert first_difference([1, 5, 3], [1, 2, 3]) == 1
    assert first_difference([1, 2], [1, 2, 3]) == 2
    assert first_difference([1, 2, 3], [1, 2]) == 2


@pytest.fixture
def session(folders: tuple[Path, Path]) -> Session:
    return Session(load_pair(*map(str, folders)))


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.7, "top_p": 0.9, "seed": 5}])
def test_ar_margin_says_by_how_much_the_baseline_token_won(
    session: Session, sampling: dict[str, Any]
) -> None:
    params = SamplingParams(max_new_tokens=12, **sampling)
    with session.engine("ar", max_len=64) as engine:
        baseline = engine.generate("hello", params)
    margins = [ar_margin(session.pair, baseline, position, params) for position in range(12)]
    assert all(margin is None or margin > 0 for margin in margins)
    assert any(margin is not None for margin in margins)
    assert ar_margin(session.pair, baseline, 12, params) is None


def test_greedy_ar_margin_is_the_gap_between_two_logits(
    session: Session, folders: tuple[Path, Path]
) -> None:
    with session.engine("ar", max_len=64) as engine:
        baseline = engine.generate("hello", SamplingParams(max_new_tokens=8))
    tokens = torch.tensor([baseline.prompt_token_ids + baseline.token_ids])
    with torch.no_grad():
        logits = LlamaForCausalLM.from_pretrained(folders[0])(tokens).logits[0, -9:-1]
    best, second = logits.topk(2).values.unbind(-1)
    margins = [ar_margin(session.pair, baseline, i, SamplingParams()) for i in range(8)]
    assert margins == pytest.approx((best - second).tolist(), abs=1e-4)


def test_a_forced_divergence_is_found_with_its_margin(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = divergence.first_difference
    monkeypatch.setattr(
        divergence,
        "first_difference",
        lambda ours, ar: honest([*ours[:4], -1], ar) if len(ours) == 16 else None,
    )
    report = compare(invoke, tmp_path, "--methods", "sps", "--limit", "1")
    run = report["runs"][1]
    assert run["identical_to_ar"] is False
    assert run["first_divergence"]["position"] == 4
    assert run["first_divergence"]["ar_margin"] > 0
    assert "sps, prompt 0: parts from ar at token 4" in report["stdout"]


def test_summary_divides_sums(session: Session) -> None:
    params = [SamplingParams(max_new_tokens=length) for length in (4, 20)]
    with session.engine("ar", max_len=64) as engine:
        runs = [run_once(session, engine, "hello", each) for each in params]
    seconds = [run.generation.stats.wall_s for run in runs]
    figures = summarise(runs)["ar"]
    assert figures["tokens_per_s"] == pytest.approx(24 / sum(seconds))
    assert figures["target_forwards"] == 24
    assert figures["mean_accepted_length"] == 1
