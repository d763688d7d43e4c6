"""`specbranch generate --html`."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from specbranch.engine import Engine
from specbranch.page import Page, pieces_of
from specbranch.pictures import ORIGIN_COLORS
from specbranch.policies import make_policy
from specbranch.sampling import SamplingParams
from tests.cli.conftest import Invoke
from tests.engine import tiny

EMPTY = {"meta"}


class Reader(HTMLParser):
    """The page's elements: every tag closed in its turn, texts by the class of their element."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, Any]]] = []
        self.elements: list[tuple[str, dict[str, Any], str]] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes), ""))
        if tag not in EMPTY:
            self.open.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.elements.append(("", self.open[-1][1], data))

    def texts(self, kind: str) -> list[str]:
        return [text for tag, had, text in self.elements if not tag and had.get("class") == kind]

    @property
    def data(self) -> dict[str, Any]:
        (text,) = (text for tag, had, text in self.elements if not tag and had.get("id") == "run")
        data: dict[str, Any] = json.loads(text)
        return data


@pytest.fixture
def page(invoke: Invoke, tmp_path: Path) -> str:
    path = tmp_path / "run.html"
    options = ("-n", "32", "--clock", "virtual:c=6", "--html", str(path))
    result = invoke("generate", "a <b>prompt</b> & more", *options)
    assert result.exit_code == 0, result.output
    text = path.read_text(encoding="utf-8")
    assert result.stdout == Reader(text).data["text"] + "\n"
    return text


def test_tokens_are_told_apart_by_how_they_came(page: str) -> None:
    reader = Reader(page)
    data = reader.data
    assert "".join(data["pieces"]) == data["text"]
    for origin in ORIGIN_COLORS:
        wanted = [
            piece
            for piece, came in zip(data["pieces"], data["origins"], strict=True)
            if came == origin
        ]
        assert reader.texts(origin) == wanted != []


def test_both_lanes_are_drawn_with_a_bar_a_span(page: str) -> None:
    reader = Reader(page)
    bars = [had for tag, had, _ in reader.elements if tag == "rect"]
    assert len(bars) == len(reader.data["spans"]) > 10
    assert len({bar["y"] for bar in bars}) == 2


def test_the_page_needs_nothing_else(page: str) -> None:
    reader = Reader(page)
    assert not any({"src", "href"} & set(had) for _, had, _ in reader.elements)
    assert [had.get("type") for tag, had, _ in reader.elements if tag == "script"] == [
        "application/json"
    ]
    assert "http://" not in page.replace("http-equiv", "")


def test_text_cannot_break_out(page: str, tmp_path: Path) -> None:
    evil = '</script><script>alert("1")</script>&amp;'
    with Engine(tiny.pair(), make_policy("ar")) as engine:
        generation = engine.generate([3, 4], SamplingParams(max_new_tokens=2))
    record = {**Reader(page).data, "prompt": evil, "method": evil}
    Page(record, generation, [evil, "ok"]).save(tmp_path / "evil.html")
    reader = Reader((tmp_path / "evil.html").read_text())
    assert reader.texts("missed") == [evil, "ok"]
    assert reader.texts("note")[0] == evil
    assert reader.data["prompt"] == evil
    assert sum(tag == "script" for tag, _, _ in reader.elements) == 1


def test_pieces_add_up_where_a_character_takes_several_tokens() -> None:
    tokenizer = tiny.tokenizer()
    ids = tokenizer.encode("hello there")
    assert pieces_of(tokenizer, ids) == list("hello there")
