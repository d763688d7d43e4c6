"""Streams: what they yield, and how they end."""

from __future__ import annotations

import threading

import pytest

from specbranch.policies import BestFirst
from specbranch.sampling import SamplingParams
from tests.engine import tiny
from tests.engine.test_engine import GREEDY, PROMPT, virtual_engine


@pytest.fixture
def engine():
    return virtual_engine(tiny.pair(noise=0.15), BestFirst())


def test_streaming_yields_every_token_once(engine):
    params = SamplingParams(temperature=1.0, max_new_tokens=50)
    stream = engine.stream(PROMPT, params)
    chunks = list(stream)
    generation = engine.generate(PROMPT, params)
    assert [token for chunk in chunks for token in chunk.token_ids] == generation.token_ids
    assert "".join(chunk.text for chunk in chunks) == generation.text == stream.generation.text
    assert len(chunks) == stream.generation.stats.target_forwards < 50


def test_a_stream_is_over_after_the_last_chunk(engine):
    stream = engine.stream(PROMPT, GREEDY)
    chunks, generation = list(stream), stream.generation
    assert chunks
    assert list(stream) == []
    assert stream.generation is generation
    assert generation.token_ids == [token for chunk in chunks for token in chunk.token_ids]


def test_a_closed_stream_keeps_what_was_committed(engine):
    whole = engine.generate(PROMPT, GREEDY)
    stream = engine.stream(PROMPT, GREEDY)
    chunks = [next(stream), next(stream)]
    assert stream.generation is None
    stream.close()
    assert list(stream) == []
    cancelled = stream.generation
    assert cancelled.finish_reason == "cancelled"
    assert cancelled.token_ids == [token for chunk in chunks for token in chunk.token_ids]
    assert cancelled.token_ids == whole.token_ids[: len(cancelled.token_ids)]
    assert cancelled.stats.tokens == len(cancelled.token_ids)
    assert engine.generate(PROMPT, GREEDY).token_ids == whole.token_ids


def test_a_stream_closed_before_its_first_chunk(engine):
    stream = engine.stream(PROMPT, GREEDY)
    stream.close()
    assert list(stream) == []
    assert stream.generation.finish_reason == "cancelled"
    assert stream.generation.token_ids == []


def test_a_stream_is_closed_by_another_thread(engine):
    class Watched(BestFirst):
        def observe(self, outcome):
            rounds.release()

    rounds = threading.Semaphore(0)
    engine.policy = Watched()
    stream = engine.stream(PROMPT, SamplingParams(max_new_tokens=200))
    reader = threading.Thread(target=lambda: list(stream))
    reader.start()
    rounds.acquire()
    stream.close()
    reader.join()
    assert stream.generation.finish_reason == "cancelled"
    assert 0 < len(stream.generation.token_ids) < 200


def test_leaving_an_engine_ends_its_stream(engine):
    def interrupted():
        with engine:
            next(stream)
            raise KeyError("mine")

    stream = engine.stream(PROMPT, GREEDY)
    with pytest.raises(KeyError, match="mine"):
        interrupted()
    assert stream.generation.finish_reason == "cancelled"
    with pytest.raises(RuntimeError, match="the engine is closed"):
        engine.generate(PROMPT, GREEDY)
