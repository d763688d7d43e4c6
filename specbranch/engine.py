"""The engine: a pair of models, a policy, and the requests that they serve together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from types import TracebackType
from typing import overload

from specbranch.checks import require, require_positive
from specbranch.generation import Generation, GenerationStream
from specbranch.grammar import Grammars
from specbranch.growth import Experience, Growth
from specbranch.hrad.model import HRad
from specbranch.lanes import (
    Lane,
    LaneError,
    Lanes,
    MixedLanes,
    StreamLane,
    StreamLanes,
    ThreadLanes,
)
from specbranch.loading.pair import ModelPair
from specbranch.loop import RoundLoop
from specbranch.models.memory import affordable_tokens
from specbranch.models.runner import ModelRunner
from specbranch.models.support import max_positions
from specbranch.policies.base import Policy
from specbranch.request import Chunk, Request
from specbranch.rules import rules_of
from specbranch.sampling import SamplingParams
from specbranch.scheduler import Scheduler
from specbranch.sources.drafts import draft_source
from specbranch.sources.ngram import NGramSource
from specbranch.sources.source import Source
from specbranch.stopping import Transcript
from specbranch.trace import Label
from specbranch.verifier import Verifier

Prompt = str | Sequence[int] | list[dict[str, str]]
SOURCES = ("model", "ngram", "model+ngram")
MAX_FAN = 255  # children of a node, at most: a draw's number is a byte


class Engine:
    """Generates text with a target model and a draft that works ahead of it.

    Requests that run go through every forward together. Each one's text is what it is alone.

    pair: the models. policy: where to draft and what to submit; the pattern of every request's own.
    source: who guesses: `model`, the pair's draft, `ngram`, the text's own repetitions, which needs
        no draft, `model+ngram`, both, or one made for this engine.
    lanes: where the models run; by default worker threads, or CUDA streams for models on a GPU,
        closed with the engine. For a model on a stream the engine is warm from the start, its
        forwards captured as CUDA graphs.
    hrad: looks ahead after every round, for a policy that reads it (no other uses it); trained for
        this pair and for blocks of the policy's gamma.
    max_requests: that run at a time; others wait.
    max_len: tokens of a request's prompt and output together, at most; less where the models have
        fewer positions.
    cache_tokens: those of all running requests, at most; max_requests * max_len by default, less
        with a warning where half of the free memory does not hold so many.
    reuse_prefixes: whether keys and values of prompts' beginnings, in chunks of 512 tokens, stay
        for later requests that begin alike, as long as there is room.
    max_nodes: size of each request's block of speculative nodes in each model.
    grammars: compiles JSON schemas of requests, and keeps them.

    Raises ValueError for what does not fit together, and for a model that we cannot run.
    """

    def __init__(
        self,
        pair: ModelPair,
        policy: Policy,
        *,
        source: Source | str = "model",
        lanes: Lanes | None = None,
        hrad: HRad | None = None,
        max_requests: int = 8,
        max_len: int = 2048,
        cache_tokens: int | None = None,
        reuse_prefixes: bool = True,
        max_nodes: int = 128,
    ) -> None:
        require_positive(max_requests=max_requests, max_len=max_len, max_nodes=max_nodes)
        require("policy", "a Policy, as make_policy gives", policy, isinstance(policy, Policy))
        require("policy", f"max_fan up to {MAX_FAN}", policy.max_fan, policy.max_fan <= MAX_FAN)
        names = ", ".join(SOURCES)
        known = isinstance(source, Source) or source in SOURCES
        require("source", f"one of {names}, or a Source", source, known)
        drafts = [pair.draft] if source in ("model", "model+ngram") else []
        max_len = min(max_len, *(max_positions(model, max_len) for model in (pair.target, *drafts)))
        if cache_tokens is None:
            wanted = max_requests * max_len
            cache_tokens = affordable_tokens([pair.target, *drafts], wanted, least=max_len)
        require_positive(cache_tokens=cache_tokens)
        hrad = hrad if policy.reads_outlook else None
        self.pair = pair
        self.policy = with_blocks_of(hrad, policy, pair) if hrad else policy
        runner = partial(
            ModelRunner,
            max_len=max_len,
            max_nodes=max_nodes,
            max_requests=max_requests,
            cache_tokens=cache_tokens,
            reuse_prefixes=reuse_prefixes,
        )
        hidden_layers = source.hidden_layers if isinstance(source, Source) else 0
        hrad_layers = hrad.config.feature_layers if hrad else 0
        target = runner(pair.target, feature_layers=max(hidden_layers, hrad_layers))
        self.max_len = min(max_len, cache_tokens, target.max_positions)
        overlap = works_at_once(policy, source)
        ngrams = NGramSource(max_nodes=max_nodes)
        beside = ngrams if source == "model+ngram" else None
        if source == "ngram":
            source = ngrams
        draft = None
        if not isinstance(source, Source):
            draft = runner(pair.draft)
            self.max_len = min(self.max_len, draft.max_positions)
            source = draft_source(draft, pair.translation, policy.max_fan, target.vocab_size)
        self.lanes = lanes or default_lanes(pair, overlap)
        self._owns_lanes = lanes is None
        self._draws = source.draws
        growth = Growth(source, self.lanes.draft, Experience(), beside)
        verifier = Verifier(target, self.lanes.target, hrad, hidden_layers)
        self._target = target
        self.grammars = Grammars(pair.tokenizer, target.vocab_size)
        self._runners: list[tuple[Lane, ModelRunner]] = [(self.lanes.target, target)]
        if draft:
            self._runners.append((self.lanes.draft, draft))
        self._loop = RoundLoop(growth, verifier, self.lanes)
        self._scheduler = Scheduler(self._loop, max_requests)
        self._warm_up([each for each in self._runners if isinstance(each[0], StreamLane)])
        for each in self._runners:
            if not isinstance(each[0], StreamLane):
                require_running(*each)

    @overload
    def generate(self, prompt: Prompt, params: SamplingParams | None = None) -> Generation: ...

    @overload
    def generate(
        self,
        prompt: list[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
    ) -> list[Generation]: ...

    def generate(self, prompt, params=None):  # type: ignore[no-untyped-def]
        """Generate to the end.

        prompt: text, chat messages, or token ids; see ModelPair.encode. Or a list of such, whose
            generations are then a list; one that ends with an error says so in its generation.
        params: for all of them, or a list of as many.

        Raises ValueError, before anything runs, for a prompt that is empty, holds ids outside the
        vocabulary or, with max_new_tokens, is longer than the engine holds; RuntimeError after
        close. Of a single prompt what ended it is raised: LaneError if a model fails or its logits
        decide nothing (NaN), or whatever its policy raised.
        """
        if not is_many(prompt):
            stream = self.stream(prompt, params)
            for _ in stream:
                pass
            return stream.generation
        requests = [
            self._numbered_request(number, *each)
            for number, each in enumerate(zip(prompt, _each(params, len(prompt)), strict=True))
        ]
        for request in requests:
            self._scheduler.add(request)
        try:
            for request in requests:
                while self._scheduler.next_chunk(request) is not None:
                    pass
        except BaseException:
            for request in requests:
                request.cancel()
            raise
        return [Generation.of(request) for request in requests]

    def stream(self, prompt: Prompt, params: SamplingParams | None = None) -> GenerationStream:
        """Like generate for one prompt, but yields a Chunk after every round that commits some.

        The request takes part in the engine's rounds from now on, whoever runs them.
        """
        request = self._request(prompt, params)
        self._scheduler.add(request)
        return GenerationStream(self._scheduler, request)

    async def astream(
        self, prompt: Prompt, params: SamplingParams | None = None
    ) -> AsyncIterator[Chunk]:
        """Like stream, for `async for`: rounds run in threads of the event loop's."""
        stream = self.stream(prompt, params)
        try:
            while (chunk := await asyncio.to_thread(next, stream, None)) is not None:
                yield chunk
        finally:
            stream.close()

    def check(self, prompt: Prompt, params: SamplingParams | None = None) -> None:
        """Raise what `generate` would raise before anything runs."""
        self._request(prompt, params)

    def step(self) -> bool:
        """Run one round of all requests; for a thread that serves streams which others read.

        Returns whether there are requests left.
        """
        return self._scheduler.step()

    def warm_up(self) -> None:
        """Do what is done once, so that the first request is as fast as the second.

        Runs a forward of each small number of rows in both models. For before the first request.
        """
        self._warm_up(self._runners)

    def _warm_up(self, runners: Sequence[tuple[Lane, ModelRunner]]) -> None:
        self.lanes.begin()
        for lane, runner in runners:
            lane.run(Label.WARM_UP, runner.warm_up)
            lane.drain()

    def stats(self) -> dict[str, float | str]:
        """What the engine is doing and has done, as plain numbers.

        running, waiting: requests. pages, free_pages: of the target's cache; what only reusable
        prefixes hold counts as free. prefix_tokens, prefix_hits: tokens of prompts in whole chunks,
        and those of them that needed no reading. rounds; rows and tokens, of a target forward, each
        a mean; hit_rate: rounds of requests that ended on a token in the tree; and what the policy
        says of itself, see `Policy.report`.
        """
        pool, prefixes = self._target.pool, self._target.prefixes
        return {
            "running": self._scheduler.num_running,
            "waiting": self._scheduler.num_waiting,
            "pages": pool.num_pages,
            "free_pages": pool.num_free + prefixes.num_spare,
            "prefix_tokens": prefixes.asked,
            "prefix_hits": prefixes.hits,
            **self._loop.totals.means(),
            **self.policy.report(),
        }

    def close(self) -> None:
        """End all requests as cancelled, take no more, and give back the lanes that the engine made
        for itself."""
        self._scheduler.close()
        if self._owns_lanes:
            self.lanes.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _numbered_request(
        self, number: int, prompt: Prompt, params: SamplingParams | None
    ) -> Request:
        """Raises ValueError that says which of many it is."""
        try:
            return self._request(prompt, params)
        except ValueError as error:
            raise ValueError(f"prompts[{number}]: {error}") from None

    def _request(self, prompt: Prompt, params: SamplingParams | None) -> Request:
        """Raises ValueError for what cannot be served."""
        self._scheduler.require_open()
        params = params or SamplingParams()
        token_ids = self.pair.encode(prompt)
        self._require_servable(token_ids, params)
        drawn = params.effective_coupling == "rejection" and self._draws
        transcript = Transcript(
            self.pair.tokenizer,
            params.ends(self.pair.eos_token_ids),
            params.stop,
            params.max_new_tokens,
        )
        policy = self.policy.fresh() if drawn else self.policy.begin()
        request = Request(token_ids, params, policy, transcript, drawn)
        request.rules = rules_of(params, token_ids, transcript.ends)
        if params.json_schema is not None:
            grammar = self.grammars.rule(params.json_schema, len(token_ids), transcript.ends)
            request.rules = (*request.rules, grammar)
        return request

    def _require_servable(self, prompt: Sequence[int], params: SamplingParams) -> None:
        if not prompt:
            raise ValueError("prompt: expected at least one token, got none")
        vocab_size = self._target.vocab_size
        if not 0 <= min(prompt) <= max(prompt) < vocab_size:
            raise ValueError(
                f"prompt: expected token ids from 0 to {vocab_size - 1}, "
                f"got {min(prompt)} to {max(prompt)}"
            )
        if params.logit_bias and max(params.logit_bias) >= vocab_size:
            raise ValueError(
                f"logit_bias: expected token ids from 0 to {vocab_size - 1}, "
                f"got {max(params.logit_bias)}"
            )
        if len(prompt) + params.max_new_tokens > self.max_len:
            raise ValueError(
                f"max_new_tokens: expected prompt and output to fit {self.max_len} tokens, "
                "as max_len, the cache and the models allow, "
                f"got {len(prompt)} + {params.max_new_tokens}"
            )


def is_many(prompt: object) -> bool:
    """Whether it is a list of prompts: a single one holds token ids or messages, or is a text."""
    return isinstance(prompt, list) and isinstance(prompt[0] if prompt else None, str | list)


def _each(
    params: SamplingParams | Sequence[SamplingParams] | None, count: int
) -> list[SamplingParams | None]:
    """Parameters of so many requests."""
    if params is None or isinstance(params, SamplingParams):
        return [params] * count
    require("params", f"{count}, one a prompt", len(params), len(params) == count)
    return list(params)


def with_blocks_of(hrad: HRad, policy: Policy, pair: ModelPair) -> Policy:
    """The policy with chains of hrad's gamma, where it has none of its own.

    Raises ValueError if hrad was trained for another pair or another gamma.
    """
    hrad.config.require_pair(pair)
    gamma = hrad.config.gamma
    require(
        "gamma", f"{gamma}, which hrad was trained for", policy.gamma, policy.gamma in (0, gamma)
    )
    policy = policy.begin()
    policy.gamma = gamma
    return policy


def require_running(lane: Lane, runner: ModelRunner) -> None:
    """Run a model on a token. Raises ValueError for one whose code does what we cannot do."""
    try:
        lane.run(Label.WARM_UP, partial(runner.warm_up, 1))
    except LaneError as error:
        kind = type(runner.model).__name__
        raise ValueError(f"{lane.name}: {kind} cannot be run: {error.__cause__}") from error


def works_at_once(policy: Policy, source: Source | str) -> bool:
    """Whether what guesses takes cores while the target works. source: as for Engine."""
    takes_cores = source.takes_cores if isinstance(source, Source) else source != "ngram"
    return policy.overlaps and takes_cores


def default_lanes(pair: ModelPair, overlap: bool) -> Lanes:
    """Streams on GPUs, with threads for a draft on the CPU; where both are there, disjoint cores
    if both work at once, else all by turns.

    overlap: whether they do.
    """
    if pair.device.type == "cuda" and pair.draft.device.type == "cuda":
        return StreamLanes(pair.draft.device, pair.device)
    if pair.device.type == "cuda":
        return MixedLanes(pair.device)
    return ThreadLanes.for_overlap() if overlap else ThreadLanes.for_turns()
