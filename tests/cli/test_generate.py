"""`specbranch generate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from specbranch.policies import POLICIES
from tests.cli.conftest import Invoke

RUN_KEYS = {
    "method",
    "prompt",
    "token_ids",
    "text",
    "wall_s",
    "tokens_per_s",
    "first_token_s",
    "pace",
    "speedup",
    "mean_accepted_length",
    "acceptance_rate",
    "hit_rate",
    "rollback_rate",
    "branch_waste",
    "overlap",
    "hrad_share",
    "target_forwards",
    "draft_forwards",
    "identical_to_ar",
    "first_divergence",
    "env",
}
SHORT = ("--prompt", "hello", "--max-new-tokens", "24")


def run_json(invoke: Invoke, path: Path, *options: str) -> dict[str, Any]:
    result = invoke("generate", *SHORT, "--json", str(path), *options)
    assert result.exit_code == 0, result.output
    run: dict[str, Any] = json.loads(path.read_text())
    return run


def test_text_goes_to_stdout_and_the_summary_to_stderr(invoke: Invoke, tmp_path: Path) -> None:
    out = tmp_path / "run.json"
    result = invoke("generate", *SHORT, "--json", str(out))
    assert result.exit_code == 0, result.output
    run = json.loads(out.read_text())
    assert result.stdout == run["text"] + "\n"
    assert len(run["text"]) == 24  # the tiny tokenizer's tokens are characters
    assert "24 tokens in" in result.stderr
    assert 0 < run["first_token_s"] < run["wall_s"]
    assert f"first token after {run['first_token_s']:.2f}, then {run['pace']:.1f} tok/s" in (
        result.stderr
    )


def test_the_run_has_the_documented_keys(invoke: Invoke, tmp_path: Path) -> None:
    run = run_json(invoke, tmp_path / "run.json")
    assert set(run) == RUN_KEYS
    assert run["method"] == "specbranch"
    assert len(run["token_ids"]) == 24
    assert run["speedup"] is run["identical_to_ar"] is run["first_divergence"] is None
    for key in ("torch", "cpu", "cores", "threads", "dtype", "target", "draft", "clock", "date"):
        assert run["env"][key]


def test_every_method_writes_the_same_text(invoke: Invoke, tmp_path: Path) -> None:
    sampled = ("--temperature", "0.8", "--top-p", "0.9", "--seed", "3")
    texts = {
        method: run_json(invoke, tmp_path / f"{method}.json", "--method", method, *sampled)["text"]
        for method in POLICIES
    }
    assert len(set(texts.values())) == 1, texts
    other_seed = run_json(invoke, tmp_path / "s.json", "--temperature", "0.8", "--seed", "4")
    assert other_seed["text"] not in texts.values()


def test_prompt_from_a_file_and_from_stdin(invoke: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "prompt.txt"
    path.write_text("hello")
    by_text = invoke("generate", *SHORT)
    by_file = invoke("generate", "--prompt", str(path), "--max-new-tokens", "24")
    by_stdin = invoke("generate", "--prompt", "-", "--max-new-tokens", "24", stdin="hello")
    assert by_text.stdout == by_file.stdout == by_stdin.stdout != ""


def test_stop_strings_end_the_text_before_them(invoke: Invoke, tmp_path: Path) -> None:
    whole = run_json(invoke, tmp_path / "whole.json")["text"]
    stop = whole[10:13]
    result = invoke("generate", *SHORT, "--stop", "~~", "--stop", stop)
    assert result.stdout == whole[: whole.index(stop)] + "\n"
    assert "ended by stop" in result.stderr


def test_trace_and_timeline_are_written(invoke: Invoke, tmp_path: Path) -> None:
    trace, timeline = tmp_path / "trace.json", tmp_path / "timeline.png"
    result = invoke("generate", *SHORT, "--trace", str(trace), "--timeline", str(timeline))
    assert result.exit_code == 0, result.output
    events = json.loads(trace.read_text())["traceEvents"]
    lanes = {event["args"]["name"] for event in events if event["ph"] == "M"}
    spans = [event for event in events if event["ph"] == "X"]
    assert lanes == {"draft lane", "target lane"}
    assert {span["name"] for span in spans} == {"prefill", "draft", "target", "verify", "commit"}
    assert all(span["dur"] >= 0 and span["ts"] >= 0 for span in spans)
    assert timeline.read_bytes().startswith(b"\x89PNG")


def test_virtual_clock_charges_the_cost_model(invoke: Invoke, tmp_path: Path) -> None:
    clock = ("--clock", "virtual:c=10", "--method", "ar")
    run = run_json(invoke, tmp_path / "run.json", *clock)
    assert run["wall_s"] == 10 * run["target_forwards"]
    assert set(run) == RUN_KEYS | {"host_s"}
    assert 0 < run["host_s"] < run["wall_s"]
    assert run["env"]["clock"] == "virtual:c=10"


def test_policy_options_reach_the_policy(invoke: Invoke, tmp_path: Path) -> None:
    one = run_json(invoke, tmp_path / "1.json", "--method", "sps", "--gamma", "1")
    assert one["draft_forwards"] <= one["target_forwards"]
    five = run_json(invoke, tmp_path / "5.json", "--method", "sps", "--gamma", "5")
    assert five["draft_forwards"] > 2 * five["target_forwards"]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (("--method", "oracle"), "method: expected one of ar, sps"),
        (("--method", "ar", "--gamma", "3"), "--gamma: expected an option of the method"),
        (("--method", "sps", "--gamma", "0"), "gamma: expected an integer >= 1, got 0"),
        (("--temperature", "-1"), "temperature: expected a finite number >= 0"),
        (("--coupling", "magic"), "coupling: expected one of gumbel, rejection"),
        (("--clock", "sundial"), "clock: expected wall, virtual:c=X, virtual:FILE or"),
        (("--clock", "virtual:c=4", "--draft-threads", "1"), "threads: expected none under a"),
        (("--timeline", "lanes.txt"), "picture: expected a file of "),
        (("--device", "gpu"), "device: expected cpu, cuda or cuda:n, got gpu"),
        (("--draft-threads", "4096"), "draft_threads: expected 1 to"),
        (("--prompt", ""), "prompt: expected"),
        (("--max-new-tokens", "4096"), "max_new_tokens: expected"),
        (("--dtype", "float7"), "dtype: expected"),
        (("--draft", "self:int3"), "self:int3"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    invoke: Invoke, options: tuple[str, ...], wanted: str
) -> None:
    result = invoke("generate", *options)
    assert result.exit_code == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert wanted in line
    assert result.stdout == ""


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_cuda_without_a_gpu_is_a_clear_error(invoke: Invoke) -> None:
    result = invoke("generate", "--device", "cuda")
    assert result.exit_code == 2
    assert "error: device: cuda needs" in result.stderr


def test_ctrl_c_exits_130(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("specbranch.engine.Engine.stream", interrupt)
    result = invoke("generate", *SHORT)
    assert result.exit_code == 130
    assert "Traceback" not in result.output


def test_ngrams_need_no_draft(invoke: Invoke, tmp_path: Path) -> None:
    with_draft = run_json(invoke, tmp_path / "model.json")
    chosen = ("--source", "ngram", "--draft", "no/such/folder", "--method", "bestfirst")
    run = run_json(invoke, tmp_path / "ngram.json", *chosen)
    assert run["token_ids"] == with_draft["token_ids"]
    assert (run["env"]["draft"], run["env"]["source"]) == ("self", "ngram")


def test_an_unknown_source_is_refused_before_models_load(invoke: Invoke) -> None:
    result = invoke("generate", "--source", "oracle", "--target", "no/such/folder")
    assert result.exit_code == 2
    assert "--source: expected one of model, ngram" in result.stderr
