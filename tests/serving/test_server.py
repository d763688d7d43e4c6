"""Who is refused, who is let go, and what is told about it all."""

from __future__ import annotations

import json
import threading
from http.client import HTTPConnection

import httpx
import openai
import pytest

from specbranch.policies import BestFirst
from specbranch.serving.bodies import Limits
from tests.serving.conftest import MODEL, Served, serving, until
from tests.serving.test_answers import CHAT, MESSAGES, TEXT, deltas

LIMITS = Limits(body_bytes=4096, in_flight=3, n=2, max_tokens=100, stop_strings=2, stop_chars=5)
PATHS = {"messages": "/v1/chat/completions", "prompt": "/v1/completions"}


@pytest.fixture(scope="module")
def limited(pair):
    with serving(pair, LIMITS) as served:
        yield served


def post(served: Served, body) -> httpx.Response:
    path = PATHS["prompt" if "prompt" in body else "messages"]
    return served.http.post(path, json=body)


@pytest.mark.parametrize(
    ("options", "param", "words"),
    [
        ({"temperature": -1}, "temperature", "expected a number >= 0 that float32 holds, got -1"),
        ({"temperature": "hot"}, "temperature", "valid number, got 'hot'"),
        ({"top_p": 0}, "top_p", "expected a number in (0, 1]"),
        ({"seed": 2**63}, "seed", "expected a signed 64-bit integer"),
        ({"n": 0}, "n", "greater than or equal to 1"),
        ({"n": 3}, "n", "expected 2 at most, got 3"),
        ({"max_tokens": 101}, "max_tokens", "expected 100 at most, got 101"),
        ({"stop": ["a", "b", "c"]}, "stop", "expected 2 at most, got 3"),
        ({"stop": "abcdef"}, "stop", "expected 5 at most, got 6"),
        ({"stop": ""}, "stop", "none of them empty"),
        ({"top_logprobs": 3}, "top_logprobs", "expected logprobs with it, got 3"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "less than or equal to 20"),
        ({"logprobs": 2}, "logprobs", "valid boolean, got 2"),
        ({"frequency_penalty": 2.5}, "frequency_penalty", "expected a number in [-2, 2], got 2.5"),
        ({"presence_penalty": -3}, "presence_penalty", "expected a number in [-2, 2], got -3"),
        (
            {"repetition_penalty": 0},
            "repetition_penalty",
            "expected a number > 0 that float32 holds",
        ),
        ({"logit_bias": {"5": 101}}, "logit_bias", "less than or equal to 100"),
        ({"logit_bias": {"x": 1}}, "logit_bias", "logit_bias.x"),
        ({"logit_bias": {"64": 1}}, "logit_bias", "expected token ids from 0 to 63, got 64"),
        ({"min_tokens": -1}, "min_tokens", "expected an integer >= 0, got -1"),
        ({"response_format": {"type": "xml"}}, "response_format", "'json_schema'"),
        ({"response_format": {"type": "json_schema"}}, "response_format", "expected a json_schema"),
        ({"tools": [{"type": "function"}]}, "tools", "expected [], as it is not"),
        ({"typical_p": 0.5}, "typical_p", "expected a field that is known here, got 0.5"),
        ({"messages": []}, "messages", "at least 1 item"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages", "messages.0.role"),
        ({"messages": [{"role": "user", "content": "refused"}]}, "messages", "not this one"),
        ({"messages": [{"role": "user", "content": "a" * 300}]}, "max_tokens", "got 302 + 24"),
    ],
)
def test_a_bad_request_is_told_what_is_bad(limited: Served, options, param: str, words: str):
    response = post(limited, CHAT | options)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, param)
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith(param)
    assert words in error["message"]
    assert post(limited, CHAT).status_code == 200


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"prompt": [5, 64]}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 2}, "best_of"),
    ],
)
def test_a_bad_completion_is_told_what_is_bad(limited: Served, options, param: str):
    response = post(limited, TEXT | options)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_values_that_ask_for_nothing_are_taken(served: Served, text_of):
    nothing = {
        "frequency_penalty": 0.0,
        "presence_penalty": 0,
        "logit_bias": {},
        "logprobs": False,
        "tools": None,
        "response_format": {"type": "text"},
        "user": "me",
    }
    content = post(served, CHAT | nothing).json()["choices"][0]["message"]["content"]
    assert content == text_of(MESSAGES, seed=7)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"messages": "\\ud800"}', b"\xff"])
def test_what_is_no_body(served: Served, content: bytes):
    response = served.http.post("/v1/chat/completions", content=content)
    assert response.status_code == 400
    assert response.json()["error"]["message"]


def test_other_refusals(limited: Served):
    long = post(limited, CHAT | {"user": "a" * 5000})
    assert (long.status_code, long.json()["error"]["param"]) == (413, "body")
    other = post(limited, CHAT | {"model": "gpt"})
    assert (other.status_code, other.json()["error"]["code"]) == (404, "model_not_found")
    nowhere = limited.http.get("/v1/nothing")
    assert (nowhere.status_code, nowhere.json()["error"]["message"]) == (404, "Not Found")
    with pytest.raises(openai.BadRequestError, match="top_p: expected a number"):
        limited.client.chat.completions.create(**CHAT, top_p=2)


def in_flight(served: Served) -> float:
    stats = served.engine.stats()
    return stats["running"] + stats["waiting"]


def test_when_full_others_come_later(limited: Served):
    limited.engine.go.clear()
    streams = [limited.client.chat.completions.create(**CHAT, stream=True) for _ in range(2)]
    assert in_flight(limited) == 2
    with pytest.raises(openai.RateLimitError) as refused:
        limited.client.chat.completions.create(**CHAT, n=2)
    assert refused.value.response.headers["Retry-After"] == "1"
    assert refused.value.code == "rate_limit_exceeded"
    limited.engine.go.set()
    assert deltas(streams[0]) == deltas(streams[1])
    assert limited.client.chat.completions.create(**CHAT, n=2).choices


@pytest.mark.parametrize("stream", [False, True])
def test_who_disconnects_is_cancelled(served: Served, stream: bool):
    served.engine.go.clear()
    body = CHAT | {"stream": stream, "max_tokens": 200, "n": 2}
    rounds = served.engine.stats()["rounds"]

    client = HTTPConnection(httpx.URL(served.url).netloc.decode())
    client.request("POST", PATHS["messages"], json.dumps(body))
    until(lambda: in_flight(served) == 2)
    client.close()
    until(lambda: in_flight(served) == 0)
    served.engine.go.set()
    assert post(served, CHAT).status_code == 200
    assert served.engine.stats()["rounds"] - rounds <= 24


def test_at_sigterm_who_is_served_is_served_to_the_end(pair, text_of):
    with serving(pair) as served:
        served.engine.go.clear()
        stream = served.client.chat.completions.create(**CHAT, stream=True)
        served.stop()
        until(lambda: not served.server.servers[0].is_serving())
        with pytest.raises(httpx.ConnectError):
            served.http.get("/health")
        assert served.thread.is_alive()
        served.engine.go.set()
        assert deltas(stream)[0] == text_of(MESSAGES, seed=7)
        served.thread.join(20)
        assert not served.thread.is_alive()


class Failing(BestFirst):
    def observe(self, outcome):
        raise RuntimeError("mine")


def test_what_fails_is_told(pair):
    with serving(pair, policy=Failing()) as served:
        response = post(served, CHAT)
        error = response.json()["error"]
        assert (response.status_code, error["type"]) == (500, "server_error")
        assert "mine" in error["message"]
        with pytest.raises(openai.APIError, match="mine"):
            list(served.client.chat.completions.create(**CHAT, stream=True))
        assert served.http.get("/health").status_code == 200


def test_models(served: Served):
    (model,) = served.client.models.list().data
    assert (model.id, model.owned_by, model.max_model_len) == (MODEL, "specbranch", 256)


def test_metrics(pair):
    def figures() -> dict[str, float]:
        lines = served.http.get("/metrics").text.splitlines()
        named = (line.rsplit(" ", 1) for line in lines if f'model_name="{MODEL}"' in line)
        return {name.split("{")[0]: float(value) for name, value in named}

    with serving(pair, max_requests=1) as served:
        assert served.http.get("/health").status_code == 200
        served.engine.go.clear()
        thread = threading.Thread(target=post, args=(served, CHAT | {"n": 2}))
        thread.start()
        until(lambda: figures()["vllm:num_requests_waiting"] == 2)
        served.engine.go.set()
        thread.join()
        found = figures()
    assert found["vllm:num_requests_running"] == found["vllm:num_requests_waiting"] == 0
    assert found["vllm:prompt_tokens_total"] == 2 * 17
    assert found["vllm:generation_tokens_total"] == 2 * 24
    assert found["vllm:time_to_first_token_seconds_count"] == 2
    drafts = found["vllm:spec_decode_num_drafts_total"]
    guesses = found["vllm:spec_decode_num_draft_tokens_total"]
    accepted = found["vllm:spec_decode_num_accepted_tokens_total"]
    assert 0 < accepted <= guesses
    assert 0 < drafts <= min(guesses, 48 - accepted)
