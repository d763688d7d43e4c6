"""Prompt files."""

from __future__ import annotations

from pathlib import Path

import pytest

from specbranch.prompts import PromptRecord, read_prompts


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines))
    return path


def test_reads_prompts_and_first_turns(tmp_path: Path) -> None:
    path = write(
        tmp_path / "p.jsonl",
        '{"prompt": "one", "id": 7}',
        "",
        '{"turns": ["two", "later"], "category": "chat"}',
    )
    assert read_prompts(path) == [PromptRecord("one", id="7"), PromptRecord("two", "chat")]


def test_limit_stops_before_later_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", '{"prompt": "one"}', "not JSON")
    assert read_prompts(path, limit=1) == [PromptRecord("one")]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("not JSON", "a JSON object"),
        ('["prompt"]', "a JSON object"),
        ('{"text": "x"}', "`prompt` or `turns`, got text"),
        ('{"prompt": 3}', "prompt: expected a non-empty string, got 3"),
        ('{"prompt": ""}', "prompt: expected a non-empty string"),
        ('{"turns": "x"}', "turns: expected a list of strings"),
        ('{"turns": []}', "turns: expected a list of strings"),
        ('{"turns": [1]}', "turns: expected a non-empty string, got 1"),
        ('{"prompt": "x", "category": 1}', "category: expected a string"),
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path: Path, line: str, wanted: str) -> None:
    path = write(tmp_path / "p.jsonl", '{"prompt": "one"}', "", line)
    with pytest.raises(ValueError, match="line 3") as caught:
        read_prompts(path)
    assert wanted in str(caught.value)


def test_a_file_without_prompts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one prompt"):
        read_prompts(write(tmp_path / "p.jsonl", "", ""))
