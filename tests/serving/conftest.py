"""A server in a thread, on a tiny pair, and the texts that it should write."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import httpx
import openai
import pytest
import uvicorn

from specbranch.costs.model import CostModel
from specbranch.engine import Engine, Prompt
from specbranch.lanes import VirtualLanes
from specbranch.loading.prepack import pack_linears
from specbranch.policies import Autoregressive, BestFirst
from specbranch.sampling import SamplingParams
from specbranch.serving.app import create_app
from specbranch.serving.bodies import Limits
from tests.engine import tiny
from tests.threads import one_thread  # noqa: F401

MODEL = "tiny"
TEMPLATE = (
    "{% for each in messages %}{{ each.role[0] }}{{ each.content }} {% endfor %}"
    "{% if messages[0].content == 'refused' %}{{ raise_exception('not this one') }}{% endif %}"
)


class HeldEngine(Engine):
    """Whose rounds wait while `go` is not set."""

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **options)
        self.go = threading.Event()
        self.go.set()

    def step(self) -> bool:
        self.go.wait()
        return super().step()


@dataclass
class Served:
    engine: HeldEngine
    server: uvicorn.Server
    thread: threading.Thread
    url: str

    @cached_property
    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30)

    @cached_property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=30)

    def stop(self) -> None:
        """As at SIGTERM, but without waiting."""
        self.server.handle_exit(15, None)


@contextmanager
def serving(pair, limits: Limits | None = None, policy=None, **options) -> Iterator[Served]:
    lanes = VirtualLanes(CostModel.parse("virtual:c=4"))
    options = {"max_requests": 8, "max_len": 256, "max_nodes": 32, **options}
    engine = HeldEngine(pair, policy or BestFirst(), lanes=lanes, **options)
    app = create_app(engine, MODEL, limits or Limits())
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Served(engine, server, thread, f"http://127.0.0.1:{port}")
    finally:
        engine.go.set()
        server.should_exit = True
        thread.join()


def until(holds: Callable[[], object]) -> None:
    """Wait for what happens in another thread."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture(scope="package")
def pair():
    pair = tiny.pair(seed=15, noise=0.15)
    pair.tokenizer.chat_template = TEMPLATE
    for model in (pair.target, pair.draft):
        pack_linears(model)  # whose rows have bits of their own
    return pair


@pytest.fixture(scope="package")
def served(pair) -> Iterator[Served]:
    with serving(pair) as served:
        yield served


@pytest.fixture(scope="package")
def text_of(pair) -> Callable[..., str]:
    """What a request's text should be, by plain decoding alone."""
    lanes = VirtualLanes(CostModel.parse("virtual:c=4"))
    engine = Engine(pair, Autoregressive(), lanes=lanes, max_requests=1, max_len=256)

    def text(prompt: Prompt, **params) -> str:
        given = {"temperature": 1.0, "max_new_tokens": 24, **params}
        return engine.generate(prompt, SamplingParams(**given)).text

    return text
