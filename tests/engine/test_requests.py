"""Requests of one engine: who waits, joins, leaves, fails, and what they share."""

from __future__ import annotations

import asyncio
import gc
import random
import threading

import pytest
import torch

from specbranch.costs.model import CostModel
from specbranch.engine import Engine
from specbranch.lanes import LaneError, VirtualLanes
from specbranch.models.runner import PREFILL_CHUNK, ModelRunner
from specbranch.policies import Autoregressive, BestFirst
from specbranch.sampling import SamplingParams
from specbranch.trace import Label
from tests.engine import tiny

GREEDY = SamplingParams(max_new_tokens=24)
PROMPTS = [[5, number] for number in range(6)]


@pytest.fixture(scope="module")
def pair():
    pair = tiny.packed(tiny.pair(noise=0.15))
    for model in (pair.target, pair.draft):
        model.config.max_position_embeddings = 4096
    return pair


def engine_of(pair, policy=None, **options) -> Engine:
    lanes = VirtualLanes(CostModel.parse("virtual:c=4"))
    sizes = {"max_len": 128, "max_nodes": 32}
    return Engine(pair, policy or BestFirst(), lanes=lanes, **{**sizes, **options})


@pytest.fixture(scope="module")
def alone(pair):
    """What each prompt is answered by plain decoding."""
    engine = engine_of(pair, Autoregressive(), max_len=2048)
    return lambda prompt, params=GREEDY: engine.generate(prompt, params).token_ids


def test_requests_wait_in_order_until_there_is_room(pair, alone):
    engine = engine_of(pair, max_requests=2)
    streams = [engine.stream(prompt, GREEDY) for prompt in PROMPTS]
    engine.step()
    assert (engine.stats()["running"], engine.stats()["waiting"]) == (2, 4)
    ended: list[int] = []
    while engine.step():
        ended += [n for n, each in enumerate(streams) if each.generation and n not in ended]
    assert [each.generation.token_ids for each in streams] == [alone(each) for each in PROMPTS]
    assert set(ended[:2]) == {0, 1}


def test_short_pages_make_requests_wait(pair, alone):
    """Nothing that runs is put back, and the first in line is never overtaken."""
    engine = engine_of(pair, max_requests=3, cache_tokens=400, max_len=400)
    pages = engine.stats()["free_pages"]
    long = SamplingParams(max_new_tokens=380)
    streams = [engine.stream(PROMPTS[0], long), engine.stream(PROMPTS[1], long)]
    streams.append(engine.stream(PROMPTS[2], GREEDY))
    engine.step()
    assert (engine.stats()["running"], engine.stats()["waiting"]) == (1, 2)
    texts = [[token for chunk in each for token in chunk.token_ids] for each in streams]
    assert texts == [alone(PROMPTS[0], long), alone(PROMPTS[1], long), alone(PROMPTS[2])]
    assert engine.stats()["free_pages"] == pages


def test_threads_read_their_own_streams(pair, alone):
    engine = engine_of(pair, max_requests=3)
    texts: dict[int, list[int]] = {}

    def read(number: int) -> None:
        stream = engine.stream(PROMPTS[number], GREEDY)
        texts[number] = [token for chunk in stream for token in chunk.token_ids]

    threads = [threading.Thread(target=read, args=(n,)) for n in range(len(PROMPTS))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert texts == {n: alone(prompt) for n, prompt in enumerate(PROMPTS)}


def test_an_asynchronous_stream(pair, alone):
    engine = engine_of(pair)

    async def read(prompt) -> list[int]:
        return [token async for chunk in engine.astream(prompt, GREEDY) for token in chunk[0]]

    async def both():
        return await asyncio.gather(read(PROMPTS[0]), read(PROMPTS[1]))

    assert asyncio.run(both()) == [alone(PROMPTS[0]), alone(PROMPTS[1])]


def test_a_stream_that_is_dropped_leaves(pair):
    engine = engine_of(pair)
    pages = engine.stats()["free_pages"]
    stream = engine.stream(PROMPTS[0], GREEDY)
    next(stream)
    assert engine.stats()["free_pages"] < pages
    del stream
    gc.collect()
    assert not engine.step()
    assert engine.stats()["free_pages"] == pages


class Failing(BestFirst):
    """Raises where the root's token is its own; `at` says in which answer."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self.at = at

    def _fail(self, tree, where: str) -> None:
        if where == self.at and tree.token[0] == 63:
            raise KeyError(where)

    def grow(self, tree, busy, step):
        self._fail(tree, "busy" if busy else "grow")
        return super().grow(tree, busy, step)

    def fan(self, tree, nodes):
        self._fail(tree, "fan")
        return super().fan(tree, nodes)

    def submit(self, tree):
        self._fail(tree, "submit")
        return super().submit(tree)


@pytest.mark.parametrize("at", ["grow", "busy", "fan", "submit"])
def test_a_policy_that_raises_ends_its_own_request_alone(pair, alone, at):
    engine = engine_of(pair, Failing(at))
    pages = engine.stats()["free_pages"]
    prompts = [PROMPTS[0], [5, 63], PROMPTS[1]]
    first, failed, last = engine.generate(prompts, GREEDY)
    assert (failed.finish_reason, str(failed.error)) == ("error", f"'{at}'")
    assert (first.token_ids, last.token_ids) == (alone(prompts[0]), alone(prompts[2]))
    stream = engine.stream([5, 63], GREEDY)
    with pytest.raises(KeyError, match=at):
        list(stream)
    stream.close()
    assert stream.generation.finish_reason == "error"
    assert engine.stats()["free_pages"] == pages


def test_logits_that_decide_nothing_end_their_own_request_alone(pair, alone, monkeypatch):
    forward = ModelRunner.forward

    @torch.inference_mode()
    def poisoned(runner, batch, tokens=None):
        logits = forward(runner, batch, tokens)
        for row, rows in enumerate(batch):
            if runner.model is pair.target and rows.block is victim.target:
                logits[row] = torch.nan if rows.block.context_len == 4 else logits[row]
        return logits

    prompts = [[7, 3, 9, 30], PROMPTS[1], [7, 3, 9, 30, 12]]
    expected = [alone(prompt) for prompt in prompts]
    engine = engine_of(pair, Autoregressive())
    monkeypatch.setattr(ModelRunner, "forward", poisoned)
    streams = [engine.stream(prompt, GREEDY) for prompt in prompts]
    victim = streams[1].request
    first, failed, last = streams
    with pytest.raises(LaneError, match="position 4 are NaN"):
        list(failed)
    assert failed.generation.finish_reason == "error"
    assert failed.generation.token_ids == expected[1][:3]
    assert list(first)
    assert list(last)
    assert [first.generation.token_ids, last.generation.token_ids] == [expected[0], expected[2]]


def test_an_interrupt_ends_what_runs_and_the_engine_goes_on(pair, alone, monkeypatch):
    engine = engine_of(pair)
    stream = engine.stream(PROMPTS[0], GREEDY)
    next(stream)
    forward = ModelRunner.forward

    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(ModelRunner, "forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(stream)
    monkeypatch.setattr(ModelRunner, "forward", forward)
    with pytest.raises(RuntimeError, match="the round was interrupted"):
        list(stream)
    assert stream.generation.finish_reason == "error"
    assert engine.generate(PROMPTS[1], GREEDY).token_ids == alone(PROMPTS[1])


def long_prompt(length: int, seed: int = 0) -> list[int]:
    return random.Random(seed).choices(range(1, 64), k=length)


def test_a_long_prompt_stops_the_others_for_a_chunk_at_a_time(pair, alone):
    engine = engine_of(pair, max_len=2048)
    stream = engine.stream(PROMPTS[0], SamplingParams(max_new_tokens=100))
    next(stream)
    prompt = long_prompt(3 * PREFILL_CHUNK + 40)
    late = engine.stream(prompt, GREEDY)
    rounds = 0
    while not late.request.output:
        assert next(stream)
        rounds += 1
    assert rounds >= 3
    assert list(late)
    found = late.generation
    assert found.token_ids == alone(prompt)
    verdicts = [span for span in found.trace.spans if span.label == Label.VERIFY]
    assert len(verdicts) == found.stats.target_forwards


def test_prefixes_are_read_once_and_change_no_text(pair, alone):
    engine = engine_of(pair, max_len=2048, max_requests=2)
    pages = engine.stats()["free_pages"]
    shared = long_prompt(PREFILL_CHUNK)
    prompts = [shared + long_prompt(80, 1), shared + long_prompt(PREFILL_CHUNK + 9, 2)]
    prompts.append(prompts[1] + [4, 5])
    for prompt in prompts:
        assert engine.generate(prompt, GREEDY).token_ids == alone(prompt)
    stats = engine.stats()
    assert (stats["prefix_tokens"], stats["prefix_hits"]) == (5 * PREFILL_CHUNK, 3 * PREFILL_CHUNK)
    assert stats["free_pages"] == pages
    other = engine_of(pair, max_len=2048, reuse_prefixes=False)
    for prompt in prompts[:2]:
        other.generate(prompt, GREEDY)
    assert other.stats()["prefix_hits"] == 0


def test_prefixes_give_way_to_requests(pair, alone):
    engine = engine_of(pair, max_len=1200, cache_tokens=1400, max_requests=2)
    pages = engine.stats()["free_pages"]
    for seed in range(4):
        prompt = long_prompt(2 * PREFILL_CHUNK + seed, seed)
        assert engine.generate(prompt, GREEDY).token_ids == alone(prompt)
    assert engine.stats()["free_pages"] == pages


@pytest.mark.parametrize("seed", range(3))
def test_joins_leaves_and_cancels_at_random(pair, alone, seed):
    chance = random.Random(seed)
    engine = engine_of(pair, max_requests=3, cache_tokens=260, max_len=128)
    pages = engine.stats()["free_pages"]
    streams, cancelled = [], set()
    for _ in range(60):
        action = chance.random()
        if action < 0.2:
            prompt = long_prompt(chance.randint(1, 60), chance.randint(0, 99))
            params = SamplingParams(
                temperature=chance.choice([0.0, 1.0]),
                seed=chance.randint(0, 9),
                max_new_tokens=chance.randint(1, 60),
            )
            streams.append((prompt, params, engine.stream(prompt, params)))
        elif action < 0.25 and streams:
            number = chance.randrange(len(streams))
            streams[number][2].close()
            cancelled.add(number)
        else:
            engine.step()
    while engine.step():
        pass
    for number, (prompt, params, stream) in enumerate(streams):
        text, whole = stream.generation.token_ids, alone(prompt, params)
        assert text == whole[: len(text)] if number in cancelled else text == whole
    assert engine.stats()["free_pages"] == pages


def test_bad_requests_are_told_before_anything_runs(pair):
    engine = engine_of(pair)
    stream = engine.stream(PROMPTS[0], GREEDY)
    for prompts, params, message in (
        ([[5], [5] * 200], GREEDY, "max_new_tokens: expected prompt and output to fit 128"),
        ([[5], [64]], GREEDY, "prompt: expected token ids from 0 to 63, got 64"),
        ([[5], [6]], [GREEDY], "params: expected 2, one a prompt, got 1"),
        ([], GREEDY, "prompt: expected at least one"),
    ):
        with pytest.raises(ValueError, match=message):
            engine.generate(prompts, params)
    assert engine.stats()["waiting"] == 1
    assert list(stream)
