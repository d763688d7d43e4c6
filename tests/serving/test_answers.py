"""What is answered: the engine's own texts, whole and as streams."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.serving.conftest import MODEL, Served, serving

MESSAGES = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]
CHAT = {"model": MODEL, "messages": MESSAGES, "max_tokens": 24, "seed": 7}
TEXT = {"model": MODEL, "prompt": "once upon", "max_tokens": 24, "seed": 7}


def ids_of(pair, text: str) -> list[int]:
    return list(pair.tokenizer(text)["input_ids"])


def deltas(stream) -> dict[int, str]:
    """The text of each choice of a chat's stream."""
    texts: dict[int, str] = {}
    for part in stream:
        for choice in part.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
    return texts


def test_chat(served: Served, text_of) -> None:
    answer = served.client.chat.completions.create(**CHAT)
    (choice,) = answer.choices
    assert (answer.object, answer.model) == ("chat.completion", MODEL)
    assert (choice.message.role, choice.finish_reason) == ("assistant", "length")
    assert choice.message.content == text_of(MESSAGES, seed=7)
    prompt = len("sbe brief uhello ")
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (prompt, 24)
    assert usage.total_tokens == prompt + 24


def test_completions_know_no_template(served: Served, pair, text_of) -> None:
    answer = served.client.completions.create(**TEXT)
    expected = text_of(ids_of(pair, "once upon"), seed=7)
    assert (answer.object, answer.choices[0].text) == ("text_completion", expected)
    assert answer.usage.prompt_tokens == len("once upon")
    by_ids = TEXT | {"prompt": ids_of(pair, "once upon")}
    assert served.client.completions.create(**by_ids).choices[0].text == expected
    short = served.client.completions.create(model=MODEL, prompt="once upon", seed=7)
    assert short.usage.completion_tokens == 16
    assert expected.startswith(short.choices[0].text)


def test_parts_of_a_message_are_one_text(served: Served, text_of) -> None:
    parts = [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]
    asked = CHAT | {"messages": [{"role": "user", "content": parts}]}
    content = served.client.chat.completions.create(**asked).choices[0].message.content
    assert content == text_of([{"role": "user", "content": "hel\nlo"}], seed=7)


def test_a_chat_streams(served: Served, text_of) -> None:
    parts = list(
        served.client.chat.completions.create(
            **CHAT, stream=True, stream_options={"include_usage": True}
        )
    )
    first, *between, last, usage = parts
    assert len({part.id for part in parts}) == 1
    assert {part.object for part in parts} == {"chat.completion.chunk"}
    assert first.choices[0].delta.role == "assistant"
    assert len(between) > 1
    assert deltas(parts)[0] == text_of(MESSAGES, seed=7)
    assert last.choices[0].finish_reason == "length"
    assert all(part.choices[0].finish_reason is None for part in [first, *between])
    assert all(part.usage is None for part in parts[:-1])
    assert usage.choices == []
    assert (usage.usage.prompt_tokens, usage.usage.completion_tokens) == (17, 24)


def test_the_lines_of_a_stream(served: Served, pair, text_of) -> None:
    with served.http.stream("POST", "/v1/completions", json=TEXT | {"stream": True}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines.pop() == "data: [DONE]"
    parts = [json.loads(line.removeprefix("data: ")) for line in lines]
    text = "".join(part["choices"][0]["text"] for part in parts)
    assert text == text_of(ids_of(pair, "once upon"), seed=7)
    assert not any("usage" in part for part in parts)


@pytest.mark.parametrize("stream", [False, True])
def test_stop_strings_end_before_them(served: Served, text_of, stream: bool) -> None:
    whole = text_of(MESSAGES, seed=7)
    stop = whole[10:13]
    asked = served.client.chat.completions.create(**CHAT, stop=["~~", stop], stream=stream)
    if stream:
        parts = list(asked)
        text, reason = deltas(parts)[0], parts[-1].choices[0].finish_reason
    else:
        text, reason = asked.choices[0].message.content, asked.choices[0].finish_reason
    assert (text, reason) == (whole[: whole.index(stop)], "stop")


def test_one_seed_one_text(served: Served, text_of) -> None:
    def text(**options) -> str:
        asked = {**CHAT, "temperature": 0.8, "top_p": 0.9, **options}
        return served.client.chat.completions.create(**asked).choices[0].message.content

    assert text() == text() == text_of(MESSAGES, temperature=0.8, top_p=0.9, seed=7)
    assert text(seed=8) == text_of(MESSAGES, temperature=0.8, top_p=0.9, seed=8) != text()
    assert text(seed=None) != text(seed=None)
    assert text(temperature=0, seed=None) == text_of(MESSAGES, temperature=0)
    assert text(extra_body={"top_k": 3, "min_p": 0.1}) == text_of(
        MESSAGES, temperature=0.8, top_p=0.9, top_k=3, min_p=0.1, seed=7
    )


def test_seeds_of_choices_count_on(served: Served, text_of) -> None:
    expected = [text_of(MESSAGES, seed=seed) for seed in (7, 8, 9)]
    answer = served.client.chat.completions.create(**CHAT, n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert [choice.message.content for choice in answer.choices] == expected
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (17, 72)
    stream = served.client.chat.completions.create(**CHAT, n=3, stream=True)
    assert deltas(stream) == dict(enumerate(expected))


def test_without_max_tokens_a_chat_goes_on_to_its_end(pair, served: Served) -> None:
    asked = {"model": MODEL, "messages": MESSAGES, "seed": 7}
    assert served.client.chat.completions.create(**asked).usage.total_tokens == 256
    fewer = served.client.chat.completions.create(**asked, max_completion_tokens=5)
    assert fewer.usage.completion_tokens == 5


def test_fifty_clients_at_once_get_what_each_gets_alone(served: Served, text_of) -> None:
    def content(seed: int) -> str:
        asked = CHAT | {"seed": seed, "messages": messages(seed), "max_tokens": 12}
        if seed % 2:
            return deltas(client.chat.completions.create(**asked, stream=True))[0]
        return client.chat.completions.create(**asked).choices[0].message.content

    def messages(seed: int) -> list[dict[str, str]]:
        return [{"role": "user", "content": "hello " * (1 + seed % 5)}]

    client, seeds = served.client, range(50)
    with ThreadPoolExecutor(len(seeds)) as pool:
        texts = list(pool.map(content, seeds))
    assert texts == [text_of(messages(seed), seed=seed, max_new_tokens=12) for seed in seeds]


def test_what_the_model_itself_ends(pair, text_of) -> None:
    whole = text_of(MESSAGES, seed=7)
    ended = type(pair)(pair.target, pair.draft, pair.tokenizer, "a", "b", frozenset([5]))
    with serving(ended) as served:
        choice = served.client.chat.completions.create(**CHAT | {"max_tokens": 200}).choices[0]
        assert choice.finish_reason == "stop"
        assert choice.message.content[:24] == whole[: len(choice.message.content)]
