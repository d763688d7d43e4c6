"""`specbranch generate`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from specbranch.cli import streaming
from specbranch.engine import Engine
from specbranch.loading.pair import load_pair
from specbranch.policies import POLICIES, make_policy
from specbranch.sampling import SamplingParams
from specbranch.stopping import Transcript
from tests.cli.conftest import Invoke

RUN_KEYS = {
    "method",
    "options",
    "sampling",
    "prompt",
    "prompt_token_ids",
    "token_ids",
    "text",
    "finish_reason",
    "accepted_lengths",
    "origins",
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
    names = [event["args"]["name"] for event in events if event["ph"] == "M"]
    process, *lanes = names
    spans = [event for event in events if event["ph"] == "X"]
    assert (process, lanes) == ("specbranch", ["draft lane", "target lane"])
    told = [span["args"] for span in spans if span["name"] == "verify"]
    assert "".join(each["text"] for each in told) == result.stdout.rstrip("\n")
    assert [each["round"] for each in told] == list(range(len(told)))
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
        (("--temperature", "-1"), "temperature: expected a number >= 0 that float32 holds"),
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
        (("--frequency-penalty", "3"), "frequency_penalty: expected a number in [-2, 2], got 3.0"),
        (("--presence-penalty", "nan"), "presence_penalty: expected a number in [-2, 2]"),
        (
            ("--repetition-penalty", "0"),
            "repetition_penalty: expected a number > 0 that float32 holds",
        ),
        (("--min-new-tokens", "-1"), "min_new_tokens: expected an integer >= 0, got -1"),
        (("--logprobs", "-1"), "logprobs: expected an integer >= 0, or None, got -1"),
        (("--logit-bias", "5"), "--logit-bias: expected TOKEN=X, a token id and a number, got '5'"),
        (("--logit-bias", "a=1"), "--logit-bias: expected TOKEN=X"),
        (("--logit-bias", "5=inf"), "logit_bias: expected finite numbers or -inf, by token ids"),
        (("--logit-bias", "64=1"), "logit_bias: expected token ids from 0 to 63, got 64"),
        (("--json-schema", "no/such.json"), "--json-schema: expected a file of JSON, got no/such"),
        (("--json-schema", __file__), "--json-schema: expected a file of JSON, got"),
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


def test_a_prompt_needs_no_option_and_options_have_short_names(invoke: Invoke) -> None:
    by_option = invoke("generate", *SHORT)
    assert invoke("generate", "hello", "-n", "24").stdout == by_option.stdout
    assert invoke("generate", "-p", "hello", "-n", "24").stdout == by_option.stdout


def test_several_prompts_at_once_say_what_each_says_alone(invoke: Invoke, tmp_path: Path) -> None:
    prompts, path = ("hello", "speculate now", "a branch [/x]"), tmp_path / "runs.json"
    result = invoke("generate", *prompts, "-n", "24", "--json", str(path))
    assert result.exit_code == 0, result.output
    runs = json.loads(path.read_text())["runs"]
    alone = [run_of(invoke, tmp_path / f"{at}.json", text) for at, text in enumerate(prompts)]
    assert [run["text"] for run in runs] == [run["text"] for run in alone]
    assert len({run["text"] for run in runs}) == 3
    places = [result.stdout.index(run["text"]) for run in runs]
    assert places == sorted(places)
    assert all(prompt in result.stdout for prompt in prompts)
    assert result.stderr.count("24 tokens in") == 3


def run_of(invoke: Invoke, path: Path, prompt: str, *options: str) -> dict[str, Any]:
    assert invoke("generate", prompt, "-n", "24", "--json", str(path), *options).exit_code == 0
    run: dict[str, Any] = json.loads(path.read_text())
    return run


def test_a_run_can_be_repeated_from_its_json(invoke: Invoke, tmp_path: Path) -> None:
    sampled = ("--temperature", "0.8", "--top-p", "0.9", "--seed", "3", "--gamma", "4")
    run = run_of(invoke, tmp_path / "run.json", "hello", *sampled)
    pair = load_pair(run["env"]["target"], run["env"]["draft"])
    with Engine(pair, make_policy(run["method"], **run["options"])) as engine:
        again = engine.generate(run["prompt_token_ids"], SamplingParams(**run["sampling"]))
    assert again.token_ids == run["token_ids"]
    assert again.finish_reason == run["finish_reason"] == "length"
    assert run["options"] == {"gamma": 4}


def test_every_token_has_an_origin(invoke: Invoke, tmp_path: Path) -> None:
    run = run_json(invoke, tmp_path / "run.json", "--clock", "virtual:c=6")
    assert len(run["origins"]) == len(run["token_ids"]) == sum(run["accepted_lengths"])
    assert set(run["origins"]) == {"accepted", "won", "missed"}
    last = [sum(run["accepted_lengths"][: n + 1]) - 1 for n in range(run["target_forwards"])]
    ends = [run["origins"][at] for at in last]
    assert sum(end == "won" for end in ends) == round(run["hit_rate"] * run["target_forwards"])
    assert run_json(invoke, tmp_path / "ar.json", "--method", "ar")["origins"] == ["missed"] * 24


def test_a_long_prompt_is_read_under_a_bar(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specbranch.cli.streaming.PREFILL_CHUNK", 64)
    bars: list[int] = []
    real = streaming.reading_bar

    def counted() -> Any:
        bars.append(1)
        return real()

    monkeypatch.setattr(streaming, "reading_bar", counted)
    with_bar = invoke("generate", "hello there " * 20, "-n", "8")
    assert with_bar.exit_code == 0, with_bar.output
    monkeypatch.setattr("specbranch.cli.streaming.PREFILL_CHUNK", 512)
    without = invoke("generate", "hello there " * 20, "-n", "8")
    assert with_bar.stdout == without.stdout
    assert len(bars) == 1


def test_ctrl_c_leaves_what_was_there(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole, path = run_json(invoke, tmp_path / "whole.json"), tmp_path / "part.json"
    commit, pressed = Transcript.commit, []

    def interrupt_later(self: Transcript, tokens: Any) -> Any:
        if len(self.token_ids) > 8 and not pressed:
            pressed.append(True)
            raise KeyboardInterrupt
        return commit(self, tokens)

    monkeypatch.setattr(Transcript, "commit", interrupt_later)
    result = invoke("generate", *SHORT, "--json", str(path))
    assert result.exit_code == 130
    assert "ended by cancelled" in result.stderr
    part = json.loads(path.read_text())
    assert 8 < len(part["token_ids"]) < 24
    assert part["token_ids"] == whole["token_ids"][: len(part["token_ids"])]
    assert result.stdout.startswith(part["text"][:8])
    assert result.stdout.endswith("\n")


def test_a_reader_that_leaves_ends_it_quietly(folders: tuple[Path, Path]) -> None:
    target, draft = map(str, folders)
    command = [sys.executable, "-m", "specbranch", "generate", "hello", "-n", "200"]
    process = subprocess.Popen(
        [*command, "--target", target, "--draft", draft],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read().decode()
    assert process.wait(120) == 1
    assert "Traceback" not in errors
    assert "error" not in errors


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
