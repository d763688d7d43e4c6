"""What the pages show of Python runs as it stands, with tiny models in place of real ones."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

import specbranch
from tests.engine import test_json_schema as characters
from tests.engine import tiny

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def speaking_json() -> Any:
    """A tiny pair whose tokens are the characters of JSON."""
    speaker, ends = characters.tokenizer(), frozenset([characters.EOS])
    return dataclasses.replace(tiny.pair(seed=4), tokenizer=speaker, eos_token_ids=ends)


def test_the_page_about_python_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(specbranch, "load_pair", lambda *_, **__: speaking_json(), raising=False)
    first, rules, *_ = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    page: dict[str, Any] = {}
    exec(first, page)
    exec(rules, page)
    said, answer = page["said"], page["answer"]
    printed = capsys.readouterr().out
    assert all(generation.text in printed for generation in (page["generation"], said, answer))
    assert [len(each.top) for each in said.logprobs] == [2] * len(said.token_ids)
    assert json.loads(answer.text) == {"blue": True}
