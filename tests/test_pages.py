"""What the pages show of Python runs as it stands, with tiny models in place of real ones."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

import specbranch
from bench import floors
from tests.engine import test_json_schema as characters
from tests.engine import tiny

DOCS = Path(__file__).parents[1] / "docs"
OPS = (DOCS / "ops.md").read_text()
UNITS = {"KB": 1e3, "MB": 1e6}


def blocks_of(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page, re.DOTALL)


def speaking_json() -> Any:
    """A tiny pair whose tokens are the characters of JSON."""
    speaker, ends = characters.tokenizer(), frozenset([characters.EOS])
    return dataclasses.replace(tiny.pair(seed=4), tokenizer=speaker, eos_token_ids=ends)


def test_the_page_about_python_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(specbranch, "load_pair", lambda *_, **__: speaking_json(), raising=False)
    first, rules, *_ = blocks_of((DOCS / "python.md").read_text())
    page: dict[str, Any] = {}
    exec(first, page)
    exec(rules, page)
    said, answer = page["said"], page["answer"]
    printed = capsys.readouterr().out
    assert all(generation.text in printed for generation in (page["generation"], said, answer))
    assert [len(each.top) for each in said.logprobs] == [2] * len(said.token_ids)
    assert json.loads(answer.text) == {"blue": True}


def test_the_page_about_ops_runs() -> None:
    page: dict[str, Any] = {}
    for block in blocks_of(OPS):
        exec(block, page)


def test_every_op_of_the_engine_has_a_section_and_a_floor() -> None:
    llama = floors.Heads(num_qo_heads=32, num_kv_heads=8, head_dim=128)
    told = re.findall(r"^Floor: ([\d.]+) (\w+) for `(\w+)(.*)`\.$", OPS, re.MULTILINE)
    for number, unit, name, arguments in told:
        work = eval(f"floors.{name}{arguments}", {"floors": floors, "llama": llama})
        assert float(number) * UNITS[unit] == pytest.approx(work.floor_bytes, rel=0.005)
    sections = re.findall(r"^## (\w+)$", OPS, re.MULTILINE)
    assert [name for *_, name, _ in told] == [section.rstrip("_") for section in sections]
    table = (DOCS / "engines.md").read_text()
    assert set(re.findall(r"\(ops\.md#(\w+)\)", table)) == set(sections)
