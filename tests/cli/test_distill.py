"""From a target to a draft of it to its text, all by commands; and two models of other families."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM
from typer.testing import CliRunner, Result

from specbranch.cli import app
from tests.engine import tiny
from tests.threads import one_thread

__all__ = ["one_thread"]

PROMPTS = ["abc de", "speculate", "what now", "q", "zyx w v", "hello there"]


def run(command: str, *options: object) -> Result:
    return CliRunner().invoke(app, [command, *map(str, options)], catch_exceptions=False)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, folders: tuple[Path, Path]) -> Path:
    """A folder with prompts, and data that the target wrote in two runs."""
    work = tmp_path_factory.mktemp("distill")
    lines = [json.dumps({"prompt": prompt}) for prompt in PROMPTS * 7]
    (work / "prompts.jsonl").write_text("\n".join(lines))
    for _ in range(2):
        result = run(
            "distill-data",
            *("--target", folders[0], "--prompts", work / "prompts.jsonl", "--out", work / "data"),
            *("--tokens", 700, "--batch", 16, "--max-message", 8, "--max-answer", 16),
        )
        assert result.exit_code == 0, result.output
    return work


@pytest.fixture(scope="module")
def draft(work: Path, folders: tuple[Path, Path]) -> Path:
    result = distill(work, folders[0], work / "draft")
    assert result.exit_code == 0, result.output
    assert "layers 0 of the target" in result.stderr
    assert "step 0, held-out prompts: agreement 0." in result.stderr
    assert "step 4, held-out prompts" in result.stderr
    assert "best agreement 0." in result.stderr
    return work / "draft"


def distill(work: Path, target: Path, out: Path, *options: object) -> Result:
    return run(
        "distill",
        *("--target", target, "--data", work / "data", "--out", out, "--layers", "first:1"),
        *("--vocab", 40, "--steps", 4, "--batch-tokens", 64, "--length", 32, "--validate-every", 2),
        *options,
    )


def test_data_goes_on_where_it_stopped(work: Path) -> None:
    assert [path.name for path in sorted((work / "data").iterdir())] == [
        "0-00000.safetensors",
        "0-00001.safetensors",
    ]


def test_the_draft_guesses_and_the_text_stays_the_targets(
    draft: Path, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    result = run(
        "compare",
        *("--target", folders[0], "--draft", draft, "--methods", "sps,bestfirst"),
        *("--max-new-tokens", 16, "--limit", 2, "--clock", "virtual:c=4"),
        *("--temperature", 0.8, "--json", tmp_path / "runs.json"),
    )
    assert result.exit_code == 0, result.output
    runs = json.loads((tmp_path / "runs.json").read_text())["runs"]
    assert all(run["identical_to_ar"] for run in runs if run["method"] != "ar")
    assert any(run["mean_accepted_length"] > 1 for run in runs)


def test_a_finished_training_is_not_repeated(
    draft: Path, work: Path, folders: tuple[Path, Path]
) -> None:
    result = distill(work, folders[0], draft)
    assert "step 4, held-out prompts" in result.stderr
    assert "step 2" not in result.stderr


def test_what_does_not_fit_is_one_line(work: Path, folders: tuple[Path, Path], draft: Path) -> None:
    target, other = folders
    bad_layers = distill(work, target, work / "bad", "--layers", "0,x")
    assert bad_layers.exit_code == 2
    assert "layers: expected numbers separated by commas, or first:n" in bad_layers.stderr
    bad_bits = distill(work, target, work / "bad", "--bits", 4)
    assert bad_bits.exit_code == 2
    assert "bits: expected 8 or 16, got 4" in bad_bits.stderr
    no_data = run("distill", "--target", target, "--data", work / "none", "--out", work / "bad")
    assert no_data.exit_code == 2
    assert "data: expected passages to train on" in no_data.stderr
    another = run("generate", "--target", other, "--draft", draft, "--prompt", "abc")
    assert another.exit_code == 2
    assert f"distilled from, {target}" in another.stderr


@pytest.fixture(scope="module")
def mistral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that shares with the target its tokenizer and nothing else."""
    folder = tmp_path_factory.mktemp("mistral")
    torch.manual_seed(5)
    config = MistralConfig(
        vocab_size=len(tiny.VOCAB),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        sliding_window=9,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    MistralForCausalLM(config).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("temperature", [0, 1])
def test_two_different_models(
    folders: tuple[Path, Path], mistral: Path, tmp_path: Path, temperature: float
) -> None:
    result = run(
        "compare",
        *("--target", folders[0], "--draft", mistral, "--methods", "sps,specbranch,bestfirst"),
        *("--max-new-tokens", 12, "--limit", 1),
        *("--temperature", temperature, "--clock", "virtual:c=4", "--json", tmp_path / "runs.json"),
    )
    assert result.exit_code == 0, result.output
    runs = json.loads((tmp_path / "runs.json").read_text())["runs"]
    assert {run["method"] for run in runs} == {"ar", "sps", "specbranch", "bestfirst"}
    assert all(run["identical_to_ar"] for run in runs if run["method"] != "ar")
