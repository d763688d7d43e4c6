"""Answers that follow a schema."""

from __future__ import annotations

import dataclasses
import json

import pytest

from tests.engine import test_json_schema as schemas
from tests.serving.conftest import serving
from tests.serving.test_answers import TEXT

pytest.importorskip("xgrammar")


@pytest.fixture(scope="module")
def served(pair):
    known = schemas.tokenizer()
    known.chat_template = "{{ messages[0].content }}"
    with serving(
        dataclasses.replace(pair, tokenizer=known, eos_token_ids=frozenset([0]))
    ) as served:
        yield served


@pytest.mark.parametrize("stream", [False, True])
def test_a_schema_is_followed(served, stream):
    wanted = {"type": "json_schema", "json_schema": {"name": "it", "schema": schemas.SCHEMA}}
    for seed in range(4):
        answer = served.client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": "abc"}],
            seed=seed,
            response_format=wanted,
            stream=stream,
        )
        if stream:
            text = "".join(part.choices[0].delta.content or "" for part in answer)
        else:
            text = answer.choices[0].message.content
        assert list(json.loads(text)) == ["name", "sizes"]


def test_any_object(served):
    asked = TEXT | {"prompt": "abc", "response_format": {"type": "json_object"}, "max_tokens": 40}
    for seed in range(4):
        answer = served.http.post("/v1/completions", json=asked | {"seed": seed}).json()
        choice = answer["choices"][0]
        assert choice["text"].lstrip().startswith("{")
        if choice["finish_reason"] == "stop":
            assert isinstance(json.loads(choice["text"]), dict)


def test_what_nothing_ends(pair):
    with serving(pair) as endless:
        response = endless.http.post(
            "/v1/completions", json=TEXT | {"response_format": {"type": "json_object"}}
        )
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, "response_format")
    assert "expected a token that ends the text, got none" in error["message"]


def test_what_is_no_schema(served):
    wanted = {"type": "json_schema", "json_schema": {"name": "it", "schema": {"type": "what"}}}
    response = served.http.post("/v1/completions", json=TEXT | {"response_format": wanted})
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, "response_format")
    assert "expected a JSON schema" in error["message"]
