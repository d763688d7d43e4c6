"""`specbranch hrad collect`, `specbranch hrad train`, and `--hrad`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from specbranch.cli import app
from tests.cli.conftest import Invoke
from tests.engine import tiny


@pytest.fixture(scope="module")
def deep_folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A target of enough layers, and its draft."""
    root = tmp_path_factory.mktemp("deep")
    target = tiny.model(layers=5)
    for name, model in (("target", target), ("draft", tiny.noisy(target, 0.15))):
        model.save_pretrained(root / name)
        tiny.tokenizer().save_pretrained(root / name)
    return str(root / "target"), str(root / "draft")


@pytest.fixture(scope="module")
def run(deep_folders: tuple[str, str]) -> Callable[..., Result]:
    target, draft = deep_folders

    def command(*arguments: str) -> Result:
        models = () if "train" in arguments else ("--target", target, "--draft", draft)
        return CliRunner().invoke(app, [*arguments, *models], catch_exceptions=False)

    return command


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    texts = [f"count from {word}" for word in ("ten", "two", "six", "one", "nine", "ten")]
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    return path


@pytest.fixture(scope="module")
def data(
    run: Callable[..., Result], prompts: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("data") / "examples"
    result = run("hrad", "collect", *collect_options(prompts, out))
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def classifier(run: Callable[..., Result], data: Path) -> Path:
    path = data.parent / "hrad.safetensors"
    result = run("hrad", "train", str(data), "--out", str(path), "--epochs", "3", "--gamma", "2")
    assert result.exit_code == 0, result.output
    for words in (
        "confidence alone",
        "majority class",
        "H-RAD",
        "accuracy",
        "1 prompts",
        "gamma 2",
    ):
        assert words in result.stdout
    return path


def collect_options(prompts: Path, out: Path) -> tuple[str, ...]:
    lengths = ("--gamma", "3", "--max-new-tokens", "24")
    return "--prompts", str(prompts), "--out", str(out), *lengths, "--clock", "virtual:c=4"


def error_of(result: Result) -> str:
    assert result.exit_code == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    return line


def test_each_prompt_is_collected_once(data, run, prompts, monkeypatch):
    files = {path: path.stat().st_mtime_ns for path in data.glob("*.safetensors")}
    assert len(files) == 5  # one prompt of six comes twice
    victim = next(iter(files))
    victim.unlink()
    result = run("hrad", "collect", *collect_options(prompts, data))
    assert result.exit_code == 0, result.output
    again = {path: path.stat().st_mtime_ns for path in data.glob("*.safetensors")}
    assert [path for path in files if files[path] != again[path]] == [victim]


def test_other_settings_want_another_folder(data, run, prompts):
    result = run("hrad", "collect", *collect_options(prompts, data), "--temperature", "1")
    assert "out: expected a new folder" in error_of(result)


def test_training_draws_the_confusion_matrices_beside_the_file(classifier):
    assert classifier.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_a_trained_classifier_takes_part_and_changes_no_text(classifier, run, tmp_path):
    runs = {}
    for name, options in (("without", ()), ("with", ("--hrad", str(classifier)))):
        out = tmp_path / f"{name}.json"
        result = run(
            *("generate", "--prompt", "hello", "--max-new-tokens", "24", "--gamma", "2"),
            *("--json", str(out), *options),
        )
        assert result.exit_code == 0, result.output
        runs[name] = json.loads(out.read_text())
    assert "H-RAD" in result.stderr
    assert runs["with"]["text"] == runs["without"]["text"]
    assert runs["with"]["hrad_share"] > 0 == runs["without"]["hrad_share"]


def test_a_classifier_of_another_pair_is_refused(classifier, invoke: Invoke):
    result = invoke("generate", "--hrad", str(classifier))
    assert "was trained for target" in error_of(result)


def test_a_classifier_of_other_blocks_is_refused(classifier, run):
    result = run("generate", "--gamma", "3", "--hrad", str(classifier))
    assert "gamma: expected 2, which hrad was trained for, got 3" in error_of(result)


def test_a_classifier_that_nothing_reads_is_refused(classifier, run):
    result = run("generate", "--method", "ar", "--hrad", str(classifier))
    assert "--hrad: expected a method that reads it, got ar" in error_of(result)


def test_a_folder_without_examples_cannot_be_trained_on(run, tmp_path):
    result = run("hrad", "train", str(tmp_path), "--out", str(tmp_path / "x.safetensors"))
    assert "data: expected a folder of `hrad collect`" in error_of(result)
