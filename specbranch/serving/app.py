"""The application: who is let in, and answers whole or as streams."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from jinja2 import TemplateError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from specbranch.engine import Engine
from specbranch.generation import Generation, GenerationStream
from specbranch.logprobs import TokenLogprobs
from specbranch.page import page
from specbranch.request import Chunk
from specbranch.serving.bodies import Body, ChatBody, CompletionBody, Limits
from specbranch.serving.chances import Chances
from specbranch.serving.metrics import Metrics
from specbranch.serving.rounds import Event, Rounds
from specbranch.serving.telling import Telling
from specbranch.vocabulary import token_texts

REASONS = {"eos": "stop", "stop": "stop", "length": "length"}
PAGE_HEADERS = {
    "Content-Security-Policy": "frame-ancestors 'none'",  # which a page cannot say itself
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def create_app(engine: Engine, model: str, limits: Limits) -> FastAPI:
    """OpenAI's chat completions and completions by an engine that nobody else steps meanwhile.

    model: the name that clients know. Rounds run from startup to shutdown, before which a server
    should wait for its clients, as uvicorn does.
    """
    service = Service(engine, model, limits)
    created = int(time.time())
    chat_html = page()

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        async with service.rounds.running():
            yield

    app = FastAPI(openapi_url=None, lifespan=running)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        if isinstance(error.detail, str):  # not ours, but the framework's
            error = refusal(error.status_code, error.detail)
        return JSONResponse(error.detail, error.status_code, error.headers)

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        return await service.answer(request, ChatBody)

    @app.post("/v1/completions")
    async def complete(request: Request) -> Response:
        return await service.answer(request, CompletionBody)

    @app.get("/")
    async def chat_page() -> Response:
        return Response(chat_html, media_type="text/html", headers=PAGE_HEADERS)

    @app.get("/v1/models")
    async def models() -> Any:
        card = {"id": model, "object": "model", "owned_by": "specbranch"}
        times = {"created": created, "max_model_len": engine.max_len}
        return {"object": "list", "data": [card | times]}

    @app.get("/health")
    async def health() -> Response:
        return Response(status_code=200 if service.rounds.alive else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return app


@dataclass(frozen=True, slots=True)
class Job:
    """A client's request in the engine.

    head: what is the same in all that it is answered. chances: what each choice tells of its
    tokens', where it is asked to.
    """

    body: Body
    prompt_tokens: int
    streams: list[GenerationStream]
    began: float
    head: dict[str, Any]
    chances: Sequence[Chances]

    def usage(self, tokens: int) -> dict[str, int]:
        read = self.prompt_tokens
        return {"prompt_tokens": read, "completion_tokens": tokens, "total_tokens": read + tokens}

    def choice(
        self,
        place: int,
        said: dict[str, Any],
        told: Sequence[TokenLogprobs] = (),
        end: Generation | None = None,
    ) -> dict[str, Any]:
        chances = self.chances[place].of(told) if told else None
        reason = REASONS[end.finish_reason] if end else None
        return {"index": place, **said, "logprobs": chances, "finish_reason": reason}


class Service:
    """Lets requests in, and answers them."""

    def __init__(self, engine: Engine, model: str, limits: Limits) -> None:
        self.rounds = Rounds(engine)
        self.metrics = Metrics(engine, model)
        self._engine = engine
        self._model = model
        self._limits = limits
        self._texts = partial(token_texts, engine.pair.tokenizer)

    async def answer(self, request: Request, kind: type[Body]) -> Response:
        """Raises HTTPException for what is not served."""
        began = time.perf_counter()
        body = await self._read(request, kind)
        try:
            body.require_within(self._limits)
            prompt = await asyncio.to_thread(body.encode, self._engine.pair)
            if (schema := body.schema_wanted) is not None:
                await asyncio.to_thread(self._engine.grammars.compile, schema)
            streams = self._streams(body, prompt)
        except ValueError as error:
            argument, colon, rest = str(error).partition(": ")
            argument = body.names.get(argument, argument)
            raise refusal(400, argument + colon + rest, argument) from error
        except ImportError as error:
            raise refusal(400, str(error), "response_format") from error
        except (TemplateError, TypeError) as error:  # of a chat template, of a tokenizer
            argument = body.names.get("prompt", "prompt")
            raise refusal(400, f"{argument}: not understood: {error}", argument) from error
        prefix, whole, part = body.objects
        head = {"id": prefix + uuid.uuid4().hex, "object": part if body.stream else whole}
        told = {**head, "created": int(time.time()), "model": self._model}
        chances = [body.chances(self._texts) for _ in streams]
        job = Job(body, len(prompt), streams, began, told, chances)
        if body.stream:
            return StreamingResponse(self._lines(job), media_type="text/event-stream")
        return await unless_gone(request, self._whole(job))

    async def _read(self, request: Request, kind: type[Body]) -> Body:
        content, most = bytearray(), self._limits.body_bytes
        async for part in request.stream():
            content += part
            if len(content) > most:
                raise refusal(413, f"body: expected {most} bytes at most, got more", "body")
        try:
            body = kind.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            path = [*map(str, first["loc"]), "body"]
            text = f"{'.'.join(path[:-1])}: {first['msg']}, got {first['input']!r:.200}"
            raise refusal(400, text, path[0]) from error
        if body.model not in (None, self._model):
            text = f"model: expected {self._model!r}, got {body.model!r}"
            raise refusal(404, text, "model", "model_not_found")
        return body

    def _streams(self, body: Body, prompt: list[int]) -> list[GenerationStream]:
        """Raises ValueError for what cannot be served, HTTPException where there is no room now."""
        stats, most, count = self._engine.stats(), self._limits.in_flight, body.n or 1
        taken = int(stats["running"]) + int(stats["waiting"])
        if taken + count > most:
            text = f"{taken} choices are in flight, of {most} at most: try later"
            raise refusal(429, text, code="rate_limit_exceeded")
        room = max(1, self._engine.max_len - len(prompt))
        most_tokens = min(room, self._limits.max_tokens or room)
        law = {"temperature": 1.0, "seed": secrets.randbits(62), "max_new_tokens": most_tokens}
        params = [body.params(choice, **law) for choice in range(count)]
        return [self._engine.stream(prompt, each) for each in params]

    async def _events(self, job: Job) -> AsyncGenerator[Event, None]:
        """What rounds commit for a request, counted. Raises HTTPException for what fails."""
        silent = set(range(len(job.streams)))
        async with aclosing(self.rounds.follow(job.streams)) as events:
            async for place, event in events:
                if isinstance(event, Generation):
                    self.metrics.count_guesses(event.stats)
                    if event.finish_reason not in REASONS:
                        cause = event.error or "the engine closed"
                        raise refusal(500, f"{event.finish_reason}: {cause}")
                else:
                    self.metrics.tokens.inc(len(event.token_ids))
                    if place in silent:
                        silent.remove(place)
                        self.metrics.prompt_tokens.inc(job.prompt_tokens)
                        self.metrics.first_token.observe(time.perf_counter() - job.began)
                yield place, event

    async def _whole(self, job: Job) -> Response:
        async with aclosing(self._events(job)) as events:
            ends = {place: end async for place, end in events if isinstance(end, Generation)}
        choices = [
            job.choice(place, job.body.told(end.text), end.logprobs, end)
            for place, end in sorted(ends.items())
        ]
        usage = job.usage(sum(len(end.token_ids) for end in ends.values()))
        return JSONResponse(job.head | {"choices": choices, "usage": usage})

    async def _lines(self, job: Job) -> AsyncIterator[str]:
        """An answer as server-sent events."""
        body, tokens = job.body, 0
        counted = body.stream_option("include_usage")
        traced = body.stream_option("include_trace")
        tellings = [Telling(each.request) for each in job.streams] if traced else []
        head = job.head | ({"usage": None} if counted else {})
        try:
            async with aclosing(self._events(job)) as events:
                for place, opening in product(range(len(job.streams)), body.opening):
                    yield line(head | {"choices": [job.choice(place, opening)]})
                async for place, event in events:
                    if isinstance(event, Chunk):
                        choice = job.choice(place, body.told(event.text), event.logprobs)
                    else:
                        tokens += len(event.token_ids)
                        choice = job.choice(place, body.told(""), end=event)
                    if traced:
                        news = event.token_ids if isinstance(event, Chunk) else ()
                        choice["trace"] = tellings[place].of(news)
                    yield line(head | {"choices": [choice]})
        except HTTPException as error:
            yield line(error.detail)
            return
        if counted:
            yield line(head | {"choices": [], "usage": job.usage(tokens)})
        yield "data: [DONE]\n\n"


async def unless_gone(request: Request, work: Coroutine[Any, Any, Response]) -> Response:
    """What `work` comes to; it is cancelled where the client goes first."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = working, _ = asyncio.create_task(work), asyncio.create_task(gone())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else Response(status_code=499)
    finally:
        for task in tasks:
            task.cancel()


def line(content: object) -> str:
    return f"data: {json.dumps(content)}\n\n"


def refusal(
    status: int, text: str, argument: str | None = None, code: str | None = None
) -> HTTPException:
    """An error in OpenAI's form."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    error = {"message": text[:1000], "type": kind, "param": argument, "code": code}
    told: Any = {"error": error}
    return HTTPException(status, told, {"Retry-After": "1"} if status == 429 else None)
