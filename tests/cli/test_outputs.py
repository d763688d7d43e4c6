"""What is finished comes out, whatever becomes of streams, disks and patience."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from specbranch.comparison import baseline
from specbranch.comparison.runs import Run
from tests.cli.conftest import Invoke
from tests.engine import tiny

SHORT = ("--prompt", "hello", "--max-new-tokens", "24")


def interrupting(found: Iterator[Any], after: int) -> Iterator[Any]:
    for number, each in enumerate(found):
        if number == after:
            raise KeyboardInterrupt
        yield each


def test_ctrl_c_leaves_what_compare_has_finished(
    invoke: Invoke, tmp_path: Path, prompt_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = baseline.compare
    monkeypatch.setattr(baseline, "compare", lambda *given: interrupting(whole(*given), 3))
    out = tmp_path / "runs.json"
    options = ("--methods", "sps,pearl", "--max-new-tokens", "8", "--prompts", str(prompt_file))
    result = invoke("compare", *options, "--json", str(out))
    assert result.exit_code == 130
    assert [run["method"] for run in json.loads(out.read_text())["runs"]] == ["ar", "ar", "sps"]
    assert "sps" in result.stdout
    assert "pearl" not in result.stdout


def test_ctrl_c_before_the_first_run_tells_nothing(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baseline, "compare", lambda *_: interrupting(iter([None]), 0))
    out = tmp_path / "runs.json"
    result = invoke("compare", "--methods", "sps", "--json", str(out))
    assert (result.exit_code, result.stdout, out.exists()) == (130, "", False)


def test_ctrl_c_leaves_what_generate_has_written(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from specbranch.generation import GenerationStream

    following, chunks = GenerationStream.__next__, iter(range(3))

    def interrupted(stream: GenerationStream) -> object:
        if next(chunks, None) is None:
            raise KeyboardInterrupt
        return following(stream)

    monkeypatch.setattr(GenerationStream, "__next__", interrupted)
    out, trace = tmp_path / "run.json", tmp_path / "trace.json"
    result = invoke("generate", *SHORT, "--json", str(out), "--trace", str(trace))
    assert result.exit_code == 130
    assert json.loads(out.read_text())["text"] == result.stdout[:-1] != ""
    assert trace.exists()


@pytest.mark.parametrize("option", ["--json", "--trace", "--timeline"])
def test_outputs_that_cannot_be_written_are_found_first(
    invoke: Invoke, tmp_path: Path, option: str
) -> None:
    folder = tmp_path / "folder.png"
    folder.mkdir()
    result = invoke("generate", *SHORT, option, str(folder), "--target", "no/such/model")
    assert result.exit_code == 2
    assert f"error: {option}: expected a file that can be written" in result.stderr


@pytest.mark.parametrize("command", ["compare", "calibrate"])
def test_so_are_those_of_other_commands(invoke: Invoke, tmp_path: Path, command: str) -> None:
    option = {"compare": "--json", "calibrate": "--out"}[command]
    result = invoke(command, option, str(tmp_path), "--target", "no/such/model")
    assert result.exit_code == 2
    assert f"error: {option}: expected a file that can be written" in result.stderr


def test_compare_finds_a_long_prompt_before_it_runs(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "short"}\n' + json.dumps({"prompt": "x" * 600}) + "\n")
    runs: list[Run] = []
    monkeypatch.setattr(baseline, "run_once", lambda *_: runs.append(None))
    result = invoke("compare", "--methods", "sps", "--prompts", str(prompts))
    assert result.exit_code == 2
    assert "error: prompt 2 of 2: max_new_tokens: expected prompt and output to fit 512" in (
        result.stderr
    )
    assert runs == []


def test_names_are_no_markup(invoke: Invoke, tmp_path: Path, folders: tuple[Path, Path]) -> None:
    target = tmp_path / "a[" / "b]c[red]"
    target.parent.mkdir()
    target.symlink_to(folders[0])
    named = ("--target", str(target), "--draft", str(target))
    out = tmp_path / "[bold].json"
    result = invoke("generate", *SHORT, *named, "--json", str(out))
    assert result.exit_code == 0, result.output
    assert out.exists()
    result = invoke("compare", "--methods", "sps", "--max-new-tokens", "4", "--limit", "1", *named)
    assert result.exit_code == 0, result.output
    assert f"target {target}" in result.stdout.replace("\n", "")


def command(folders: tuple[Path, Path], *options: str) -> list[str]:
    target, draft = map(str, folders)
    models = ("--target", target, "--draft", draft)
    return [sys.executable, "-m", "specbranch", "generate", *models, *options]


def test_a_reader_that_goes_costs_the_file_nothing(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "run.json"
    options = ("--prompt", "hello", "--max-new-tokens", "400", "--json", str(out))
    process = subprocess.Popen(
        command(folders, *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout
    assert process.stderr
    process.stdout.read(1)
    process.stdout.close()
    assert process.wait() == 1
    assert b"Traceback" not in (said := process.stderr.read()), said
    assert b"Exception ignored" not in said, said
    assert len(json.loads(out.read_text())["token_ids"]) == 400


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_behind_standard_output_costs_the_file_nothing(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "run.json"
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            command(folders, *SHORT, "--json", str(out)),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert process.returncode == 2
    assert process.stderr.splitlines()[-1].startswith("error: [Errno 28] No space left")
    assert "Traceback" not in process.stderr
    assert len(json.loads(out.read_text())["token_ids"]) == 24


def test_an_ascii_terminal_shows_what_it_can(tmp_path: Path) -> None:
    target, draft = tiny.save_pair(tmp_path)
    names = json.loads((target / "tokenizer.json").read_text())
    vocab = names["model"]["vocab"]
    names["model"]["vocab"] = {
        "\N{SNOWMAN}" if name == "I" else name: token for name, token in vocab.items()
    }
    for folder in (target, draft):
        (folder / "tokenizer.json").write_text(json.dumps(names))
    out = tmp_path / "run.json"
    options = ("--prompt", "hello \N{SNOWMAN}", "--max-new-tokens", "200", "--json", str(out))
    process = subprocess.run(
        command((target, draft), *options),
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert process.returncode == 0, process.stderr
    text = json.loads(out.read_text())["text"]
    assert "\N{SNOWMAN}" in text
    assert process.stdout.decode("ascii") == text.replace("\N{SNOWMAN}", "?") + "\n"


def test_standard_input_that_is_closed_is_said(folders: tuple[Path, Path]) -> None:
    shell = 'exec "$@" <&-'
    process = subprocess.run(
        ["sh", "-c", shell, "sh", *command(folders, "--prompt", "-")],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 2
    assert process.stderr.startswith("error: prompt: expected a text on standard input")


def test_a_damaged_model_is_one_line(invoke: Invoke, tmp_path: Path) -> None:
    target, _ = tiny.save_pair(tmp_path)
    (target / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    result = invoke("generate", *SHORT, "--target", str(target))
    assert result.exit_code == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert f"target: cannot load '{target}'" in line
