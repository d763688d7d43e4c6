"""The page to chat on, and what streams tell for it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from pathlib import Path

import pytest
from fastapi import Response

from specbranch.looks import ORIGIN_COLORS
from specbranch.page import page
from tests.browser import rendered, texts
from tests.serving.conftest import Served, until
from tests.serving.test_answers import CHAT, MESSAGES, TEXT, ids_of
from tests.serving.test_server import in_flight

ASKED = {"stream": True, "stream_options": {"include_trace": True}}


def choices(served: Served, path: str, body: dict) -> list[dict]:
    response = served.http.post(path, json=body).raise_for_status()
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line)["choices"][0] for line in lines]


def test_the_page_allows_its_own_style_and_script_alone(served: Served) -> None:
    response = served.http.get("/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["content-security-policy"] == "frame-ancestors 'none'"
    (policy,) = re.findall('Content-Security-Policy" content="(.*?)"', response.text)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == "'self'"
    for tag in ("script", "style"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", response.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"


def test_the_page_refers_to_nothing_else_and_inserts_no_markup() -> None:
    html = page().replace("http://www.w3.org/2000/svg", "")  # a name
    assert not re.search(r"https?:|//\w+\.|\b(src|href|style|on\w+)=|@import|url\(", html)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", html)


@pytest.mark.parametrize("stream_options", [None, {"include_trace": False}])
def test_a_trace_comes_only_if_asked_for(served: Served, stream_options) -> None:
    body = CHAT | {"stream": True, "stream_options": stream_options}
    assert not any("trace" in each for each in choices(served, "/v1/chat/completions", body))


@pytest.mark.parametrize("stop", [[], ["~~", "zq"]])
def test_each_token_is_told_with_its_text(served: Served, text_of, stop: list[str]) -> None:
    told = choices(served, "/v1/chat/completions", CHAT | ASKED | {"stop": stop})
    traces = [choice["trace"] for choice in told if "trace" in choice]
    for choice in told[1:]:
        assert "".join(choice["trace"]["pieces"]) == choice["delta"]["content"]
        assert len(choice["trace"]["origins"]) == len(choice["trace"]["pieces"])
    origins = [origin for trace in traces for origin in trace["origins"]]
    assert len(origins) == 24
    assert len(set(origins)) > 1
    text = "".join(piece for trace in traces for piece in trace["pieces"])
    assert text == text_of(MESSAGES, seed=7, stop=stop)


def test_the_lanes_are_told_in_order_and_whole(served: Served) -> None:
    told = choices(served, "/v1/chat/completions", CHAT | ASKED)
    spans = [span for choice in told[1:] for span in choice["trace"]["spans"]]
    forwards = [span["start"] for span in spans if span["label"] == "target"]
    assert forwards == sorted(set(forwards))
    assert len(forwards) == sum(bool(choice["trace"]["origins"]) for choice in told[1:])
    assert {"draft", "verify"} <= {span["label"] for span in spans}


def test_completions_tell_it_too(served: Served, pair, text_of) -> None:
    told = choices(served, "/v1/completions", TEXT | ASKED)
    text = "".join(piece for each in told for piece in each["trace"]["pieces"])
    assert text == text_of(ids_of(pair, "once upon"), seed=7)


def test_a_browser_chats(served: Served, text_of, tmp_path: Path) -> None:
    prompt = [{"role": "user", "content": "hello"}]
    expected = text_of(prompt, temperature=0, max_new_tokens=249)
    rounds = served.engine.stats()["rounds"]

    def wait() -> None:
        """Until the text is there: a browser's hurried clock stands still for what it fetches."""
        until(lambda: served.engine.stats()["rounds"] > rounds and not in_flight(served))
        time.sleep(0.3)

    say = 'at("prompt").value = "hello"; at("form").requestSubmit(); fetch("wait");'
    html = re.sub("<meta http-equiv.*>", "", page()) + f"<script>{say}</script>"
    app = served.server.config.app
    app.get("/driven")(lambda: Response(html, media_type="text/html"))
    app.get("/wait")(wait)
    shown = rendered(f"{served.url}/driven", tmp_path)
    assert "".join(text for _, text in texts(shown, ORIGIN_COLORS)) == expected
    assert "249 tokens, " in shown
    assert shown.count("<rect") > 10


def test_a_browser_lets_the_page_run(served: Served, tmp_path: Path) -> None:
    """What the page allows itself suffices for it."""
    assert "SpecBranch: tiny" in rendered(f"{served.url}/", tmp_path)  # which the script says
