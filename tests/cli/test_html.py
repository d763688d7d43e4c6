"""`specbranch generate --html`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from specbranch.cli.streaming import pieces_of
from specbranch.looks import LANES, ORIGIN_COLORS
from specbranch.page import page
from tests.browser import rendered, texts
from tests.cli.conftest import Invoke
from tests.engine import tiny

PROMPT = "a <b>prompt</b> & more"


def run_of(html: str) -> dict[str, Any]:
    """The run that a page holds."""
    (data,) = re.findall('<script type="application/json" id="data">(.*?)</script>', html)
    run: dict[str, Any] = json.loads(data)["run"]
    return run


@pytest.fixture
def written(invoke: Invoke, tmp_path: Path) -> Path:
    path = tmp_path / "run.html"
    options = ("-n", "32", "--clock", "virtual:c=6", "--html", str(path))
    result = invoke("generate", PROMPT, *options)
    assert result.exit_code == 0, result.output
    assert result.stdout == run_of(path.read_text(encoding="utf-8"))["text"] + "\n"
    return path


def test_the_page_holds_the_run(written: Path) -> None:
    run = run_of(written.read_text())
    assert run["prompt"] == PROMPT
    assert "".join(run["pieces"]) == run["text"]
    assert len(run["pieces"]) == len(run["origins"]) == 32
    assert {span["lane"] for span in run["spans"]} == set(LANES)


def test_the_page_may_reach_nothing(written: Path) -> None:
    html = written.read_text()
    assert "default-src 'none'" in html
    assert "connect-src 'none'" in html


def test_a_browser_shows_tokens_by_how_they_came_and_both_lanes(
    written: Path, tmp_path: Path
) -> None:
    run = run_of(written.read_text())
    html = rendered(written.as_uri(), tmp_path / "profile")
    assert texts(html, ["turn user"]) == [("turn user", PROMPT)]
    assert texts(html, ORIGIN_COLORS) == list(zip(run["origins"], run["pieces"], strict=True))
    bars = re.findall(r'<rect x="[\d.]+" y="(\d+)"', html)
    assert len(bars) == len(run["spans"]) > 10
    assert len(set(bars)) == len(LANES)
    commits = re.findall(r">\+(\d+)</text>", html)
    assert list(map(int, commits)) == run["accepted_lengths"]


def test_text_cannot_break_out() -> None:
    evil = '</script><script>alert("1")</script>&amp;'
    run = {"prompt": evil, "pieces": [evil]}
    html = page(run)
    assert run_of(html) == run
    assert html.count("</script>") == page().count("</script>")


def test_pieces_add_up_where_a_character_takes_several_tokens() -> None:
    tokenizer = tiny.tokenizer()
    ids = tokenizer.encode("hello there")
    assert pieces_of(tokenizer, ids) == list("hello there")
