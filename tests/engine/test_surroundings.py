"""What the process around an engine does or forbids."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch
from transformers import DogeConfig, DogeForCausalLM

from specbranch.costs.model import CostModel
from specbranch.engine import Engine
from specbranch.lanes import Lanes, ThreadLanes, VirtualLanes
from specbranch.policies import make_policy
from specbranch.sampling import SamplingParams
from tests.engine import tiny

PROMPT = [5, 6, 7]
SAMPLED = SamplingParams(max_new_tokens=24, temperature=0.8)


@pytest.fixture(scope="module")
def pair():
    return tiny.pair()


def engine_of(pair, lanes: Lanes | None = None) -> Engine:
    return Engine(pair, make_policy("specbranch"), lanes=lanes, max_len=64)


@pytest.fixture(scope="module")
def expected(pair):
    with engine_of(pair) as engine:
        return engine.generate(PROMPT, SAMPLED).token_ids


def virtual() -> Lanes:
    return VirtualLanes(CostModel.parse("virtual:c=5"))


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


CALLERS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "float64": lambda: default_dtype(torch.float64),
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "anomalies": torch.autograd.detect_anomaly,
    "meta": lambda: torch.device("meta"),
    "deterministic": deterministic,
}


@pytest.mark.parametrize("lanes", [None, virtual], ids=["threads", "virtual"])
@pytest.mark.parametrize("around", CALLERS)
@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_what_the_caller_has_set_changes_nothing(pair, expected, around, lanes):
    with CALLERS[around](), engine_of(pair, lanes and lanes()) as engine:
        assert engine.generate(PROMPT, SAMPLED).token_ids == expected
    made_outside = engine_of(pair, lanes and lanes())
    with CALLERS[around](), made_outside as engine:
        assert engine.generate(PROMPT, SAMPLED).token_ids == expected


@pytest.mark.parametrize("around", CALLERS)
@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_what_the_caller_has_set_changes_no_draws(pair, around):
    params = dataclasses.replace(SAMPLED, coupling="rejection")
    with engine_of(pair, virtual()) as engine:
        expected = engine.generate(PROMPT, params).token_ids
    with CALLERS[around](), engine_of(pair, virtual()) as engine:
        assert engine.generate(PROMPT, params).token_ids == expected


def test_lanes_that_may_not_be_pinned_work_unpinned(pair, expected, monkeypatch):
    def forbidden(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setaffinity", forbidden)
    monkeypatch.setattr(os, "sched_getaffinity", forbidden)
    with engine_of(pair) as engine:
        assert engine.generate(PROMPT, SAMPLED).token_ids == expected


def ends_in_a_child(work: Callable[[], str]) -> str:
    """What work says in a forked child, which has half a minute."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, work().encode())
        except BaseException as error:
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    deadline = time.monotonic() + 30
    while not os.waitpid(child, os.WNOHANG)[0]:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        time.sleep(0.02)
    with os.fdopen(reading) as said:
        return said.read()


def test_in_a_forked_child_an_engine_says_so_and_closes(pair, expected):
    with engine_of(pair) as engine:
        engine.generate(PROMPT, SAMPLED)
        stream = engine.stream(PROMPT, SAMPLED)
        next(stream)

        def of_the_engine() -> str:
            engine.generate(PROMPT, SAMPLED)
            return "served"

        def of_its_end() -> str:
            stream.close()
            engine.close()
            return "closed"

        assert ends_in_a_child(of_the_engine).startswith("RuntimeError: the engine is in the")
        assert ends_in_a_child(lambda: str(next(stream))).startswith("RuntimeError: ")
        assert ends_in_a_child(of_its_end) == "closed"
        assert [token for chunk in stream for token in chunk.token_ids]
        assert engine.generate(PROMPT, SAMPLED).token_ids == expected


def test_in_a_forked_child_lanes_say_so_and_close():
    with ThreadLanes(1, 1) as lanes:
        lanes.draft.run("work", int)
        said = ends_in_a_child(lambda: str(lanes.draft.run("work", int)))
        assert said.startswith("RuntimeError: lanes: their threads stayed")
        assert ends_in_a_child(lambda: str(lanes.close())) == "None"


def test_a_closed_lane_takes_nothing_more():
    lanes = ThreadLanes(1, 1)
    lanes.close()
    lanes.close()
    lanes.drain()
    with pytest.raises(RuntimeError, match="lanes: these are closed"):
        lanes.draft.submit("work", int)


def test_all_work_of_a_lane_is_done_on_one_thread():
    """Also where an interrupt comes while work is handed over."""
    import threading

    def interrupting(frame: object, event: str, argument: object) -> None:
        raise KeyboardInterrupt

    with ThreadLanes(1, 1) as lanes:
        seen = {lanes.draft.run("work", threading.get_ident)}
        for _ in range(20):
            sys.setprofile(interrupting)
            try:
                lanes.draft.submit("work", int)
            except KeyboardInterrupt:
                pass
            finally:
                sys.setprofile(None)
            seen.add(lanes.draft.run("work", threading.get_ident))
        assert len(seen) == 1


@pytest.mark.parametrize("method", ["ar", "pearl"])
def test_an_interrupt_anywhere_leaves_the_engine_right(pair, method):
    """A signal at each of many places of a request, then the same request again."""
    params = SamplingParams(max_new_tokens=12, temperature=0.8)
    with Engine(pair, make_policy(method), max_len=64) as engine:
        expected = engine.generate(PROMPT, params).token_ids

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    engine = Engine(pair, make_policy(method), max_len=64)
    interrupted = 0
    try:
        for place in range(1, 41):
            try:
                signal.setitimer(signal.ITIMER_REAL, place * 3e-4)
                engine.generate(PROMPT, params)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
            assert engine.generate(PROMPT, params).token_ids == expected
            assert engine.stats()["running"] == engine.stats()["waiting"] == 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        engine.close()
    assert interrupted > 0


def test_a_round_that_runs_inside_another_is_refused(pair):
    """As a policy might start one; a stream that it closes leaves with the round."""
    engine = engine_of(pair)
    streams = [engine.stream(PROMPT, SAMPLED) for _ in range(2)]
    said: list[str] = []
    policy = streams[0].request.policy
    observe = policy.observe

    def observing(outcome) -> None:
        observe(outcome)
        streams[1].close()
        with pytest.raises(RuntimeError, match="a round cannot run within another") as caught:
            engine.step()
        said.append(str(caught.value))

    policy.observe = observing
    assert list(streams[0])
    assert said
    assert streams[1].generation.finish_reason == "cancelled"
    engine.close()


def test_a_cache_is_no_larger_than_the_models_positions(pair):
    with Engine(pair, make_policy("ar"), max_len=10**9) as engine:
        assert engine.max_len == 512
        assert engine.stats()["pages"] < 200
        with pytest.raises(ValueError, match="expected prompt and output to fit 512 tokens"):
            engine.generate(PROMPT, SamplingParams(max_new_tokens=10**6))


def test_many_prompts_name_the_one_that_does_not_fit(pair):
    with engine_of(pair) as engine, pytest.raises(ValueError, match=r"^prompts\[1\]: max_new_tok"):
        engine.generate([PROMPT, [3] * 60], SAMPLED)


@pytest.mark.parametrize("prompt", [b"abc", bytearray(b"abc"), memoryview(b"abc"), [True, False]])
def test_bytes_and_truths_are_no_token_ids(pair, prompt):
    with engine_of(pair) as engine, pytest.raises(ValueError, match="prompt: expected one requ"):
        engine.generate(prompt, SAMPLED)


@pytest.mark.parametrize("template", [None, "{{ messages[0].content }}"])
def test_text_that_is_no_valid_unicode_becomes_it(pair, template):
    speaker = tiny.tokenizer()
    speaker.chat_template = template
    spoken = dataclasses.replace(pair, tokenizer=speaker)
    assert spoken.encode("a\ud83d") == spoken.encode("a\ufffd")
    assert spoken.encode("caf\udce9!") == spoken.encode("caf\ufffd!")
    assert spoken.encode("\ud83d\ude00") == spoken.encode("\N{GRINNING FACE}")


def test_a_template_that_refuses_is_a_value_error(pair):
    speaker = tiny.tokenizer()
    speaker.chat_template = "{{ raise_exception('no such role') }}"
    spoken = dataclasses.replace(pair, tokenizer=speaker)
    with pytest.raises(ValueError, match="prompt: not understood: no such role"):
        spoken.encode("hello")


def test_a_model_that_makes_a_mask_of_its_own_is_told_of_by_the_engine():
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1}
    config = DogeConfig(vocab_size=64, num_attention_heads=4, num_key_value_heads=2, **sizes)
    doge = DogeForCausalLM(config).eval()
    own = dataclasses.replace(tiny.pair(), target=doge)
    with pytest.raises(
        ValueError, match=r"target: DogeForCausalLM cannot be run: .* mask of its own"
    ):
        engine_of(own)
