"""Prompt files."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from specbranch.cli.app import read_prompt
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


def test_a_byte_order_mark_and_other_line_ends_are_no_part(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "one"}\r\n\r\n{"prompt": "two"}')
    assert read_prompts(path) == [PromptRecord("one"), PromptRecord("two")]
    path.write_bytes(b"\xef\xbb\xbfone\n")
    assert read_prompt(str(path)) == "one\n"


@pytest.mark.parametrize(
    "line",
    [
        b'{"prompt": "caf\xe9"}',
        b'{"prompt": "y", "id": ' + b"1" * 5000 + b"}",
        b'{"prompt": ' + b"[" * 100_000,
        b'{"id": ' + b"[" * 5000 + b"]" * 5000 + b', "prompt": "x"}',
        "{'prompt'".encode("utf-16"),
        b"\0" * 10_000,
    ],
)
def test_lines_that_json_refuses_are_named_and_not_repeated(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'{"prompt": "one"}\n' + line)
    with pytest.raises(ValueError, match=r"p\.jsonl, line 2: expected a JSON object") as caught:
        read_prompts(path)
    assert len(str(caught.value)) < 1000


def test_a_prompt_file_that_is_no_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "latin1.txt"
    path.write_bytes(b"one\ncaf\xe9")
    with pytest.raises(ValueError, match=r"latin1\.txt, line 2: expected UTF-8, got the byte 0xe9"):
        read_prompt(str(path))


def test_halves_of_surrogate_pairs_are_joined_or_replaced(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", r'{"prompt": "a\ud83d\ude00b\ud83dc"}')
    assert read_prompts(path) == [PromptRecord("a\N{GRINNING FACE}b\ufffdc")]
    assert read_prompt("caf\udce9") == "caf\ufffd"


def test_a_prompt_may_come_through_a_pipe(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    threading.Thread(target=fifo.write_text, args=["hello"], daemon=True).start()
    assert read_prompt(str(fifo)) == "hello"
    assert read_prompt(str(tmp_path)) == str(tmp_path)
