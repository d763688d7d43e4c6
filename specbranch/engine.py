"""The engine: a pair of models, a policy, and requests one at a time."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from weakref import WeakSet

from specbranch.checks import require, require_positive
from specbranch.growth import Experience, Growth
from specbranch.hrad.model import HRad
from specbranch.lanes import Lanes, StreamLanes, ThreadLanes
from specbranch.loading.pair import ModelPair
from specbranch.loop import RoundLoop
from specbranch.models.runner import ModelRunner
from specbranch.policies.base import Policy
from specbranch.request import Request
from specbranch.sampling import SamplingParams
from specbranch.sources.model import ModelSource
from specbranch.sources.source import Source
from specbranch.stats import Stats
from specbranch.stopping import FinishReason, Transcript
from specbranch.trace import Trace
from specbranch.verifier import Verifier

Prompt = str | Sequence[int] | list[dict[str, str]]
MAX_FAN = 255  # children of a node, at most: a draw's number is a byte


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one round committed: its tokens, and the text that can now be shown."""

    token_ids: list[int]
    text: str


@dataclass(frozen=True, slots=True)
class Generation:
    """A finished request."""

    prompt_token_ids: list[int]
    token_ids: list[int]
    text: str
    finish_reason: FinishReason
    stats: Stats
    trace: Trace


class GenerationStream(Iterator[Chunk]):
    """A request's chunks; `generation` is there after the last one, and after `close`.

    The request starts with the first chunk asked for. It ends with the last one, with `close`, or
    when the stream is dropped.
    """

    def __init__(self, rounds: Generator[Chunk, None, Generation], transcript: Transcript) -> None:
        self._rounds = rounds
        self._transcript = transcript
        self._turn = threading.RLock()
        self.generation: Generation | None = None

    @property
    def begun(self) -> bool:
        """Whether a chunk was asked for."""
        return inspect.getgeneratorstate(self._rounds) != inspect.GEN_CREATED

    def __next__(self) -> Chunk:
        with self._turn:
            try:
                return next(self._rounds)
            except StopIteration as end:
                self.generation = self.generation or end.value
                raise

    def close(self) -> None:
        """End the request where it is; another thread's round is waited for.

        `generation` then holds what was committed, with the finish reason "cancelled"; it stays
        None if no chunk was asked for.
        """
        if self.begun:
            self._transcript.cancel()
            with self._turn:
                if inspect.getgeneratorstate(self._rounds) == inspect.GEN_SUSPENDED:
                    for _ in self:
                        pass
        else:
            self._rounds.close()


class Engine:
    """Generates text with a target model and a draft that works ahead of it.

    pair: the models. policy: where to draft and what to submit.
    source: who guesses; by default the pair's draft. It serves one engine.
    lanes: where the models run; by default worker threads, or CUDA streams when the pair is on a
        GPU, closed with the engine. There a forward is captured as a CUDA graph when its number of
        rows first comes up.
    hrad: looks ahead after every round, for a policy that reads it (no other uses it); trained for
        this pair and for blocks of the policy's gamma.
    max_len: tokens of prompt and output together, at most.
    max_nodes: size of each model's block of speculative nodes.

    Raises ValueError for what does not fit together.
    """

    def __init__(
        self,
        pair: ModelPair,
        policy: Policy,
        *,
        source: Source | None = None,
        lanes: Lanes | None = None,
        hrad: HRad | None = None,
        max_len: int = 2048,
        max_nodes: int = 128,
    ) -> None:
        require_positive(max_len=max_len, max_nodes=max_nodes)
        require("policy", "a Policy, as make_policy gives", policy, isinstance(policy, Policy))
        require("policy", f"max_fan up to {MAX_FAN}", policy.max_fan, policy.max_fan <= MAX_FAN)
        require("source", "a Source", source, isinstance(source, Source | None))
        hrad = hrad if policy.reads_outlook else None
        self.pair = pair
        self.policy = with_blocks_of(hrad, policy, pair) if hrad else policy
        target = ModelRunner(
            pair.target,
            max_len=max_len,
            max_nodes=max_nodes,
            feature_layers=hrad.config.feature_layers if hrad else 0,
        )
        self.max_len = min(max_len, target.max_positions)
        if source is None:
            draft = ModelRunner(pair.draft, max_len=max_len, max_nodes=max_nodes)
            self.max_len = min(self.max_len, draft.max_positions)
            source = ModelSource(draft, policy.max_fan, target.vocab_size)
        self.lanes = lanes or default_lanes(pair, policy)
        self._owns_lanes = lanes is None
        self._verifier = Verifier(target, self.lanes.target, hrad)
        self._growth = Growth(source, self.lanes.draft, Experience())
        self._source = source
        self._streams: WeakSet[GenerationStream] = WeakSet()
        self._lock = threading.Lock()
        self._closed = False

    def generate(self, prompt: Prompt, params: SamplingParams | None = None) -> Generation:
        """Generate to the end.

        prompt: text, chat messages, or token ids; see ModelPair.encode. Raises ValueError for a
        prompt that is empty, holds ids outside the vocabulary or, with max_new_tokens, is longer
        than the engine holds; LaneError if a model fails or its logits decide nothing (NaN);
        RuntimeError while another request is running and after close.
        """
        stream = self.stream(prompt, params)
        for _ in stream:
            pass
        assert stream.generation is not None
        return stream.generation

    def stream(self, prompt: Prompt, params: SamplingParams | None = None) -> GenerationStream:
        """Like generate, but yields a Chunk after every round."""
        params = params or SamplingParams()
        token_ids = self.pair.encode(prompt)
        self._require_servable(token_ids, params)
        transcript = Transcript(
            self.pair.tokenizer,
            params.ends(self.pair.eos_token_ids),
            params.stop,
            params.max_new_tokens,
        )
        stream = GenerationStream(self._run(token_ids, params, transcript), transcript)
        self._streams.add(stream)
        return stream

    def close(self) -> None:
        """Close the stream that has begun, take no more requests, and give back the lanes that the
        engine made for itself."""
        for stream in [stream for stream in self._streams if stream.begun]:
            stream.close()
        with self._lock:
            if self._owns_lanes and not self._closed:
                self.lanes.close()
            self._closed = True

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _require_open(self) -> None:
        if self._closed:
            raise RuntimeError("the engine is closed")

    def _require_servable(self, prompt: Sequence[int], params: SamplingParams) -> None:
        self._require_open()
        if params.effective_coupling == "rejection" and not self._source.draws:
            raise ValueError(
                "coupling: expected gumbel, for the source cannot tell its laws, got rejection"
            )
        if not prompt:
            raise ValueError("prompt: expected at least one token, got none")
        vocab_size = self._verifier.vocab_size
        if not 0 <= min(prompt) <= max(prompt) < vocab_size:
            raise ValueError(
                f"prompt: expected token ids from 0 to {vocab_size - 1}, "
                f"got {min(prompt)} to {max(prompt)}"
            )
        if len(prompt) + params.max_new_tokens > self.max_len:
            raise ValueError(
                f"max_new_tokens: expected prompt and output to fit {self.max_len} tokens, "
                f"as max_len and the models allow, got {len(prompt)} + {params.max_new_tokens}"
            )

    def _run(
        self, prompt: list[int], params: SamplingParams, transcript: Transcript
    ) -> Generator[Chunk, None, Generation]:
        if not self._lock.acquire(blocking=False):
            raise RuntimeError("the engine is busy: it runs one request at a time")
        try:
            self._require_open()
            self.lanes.drain()  # an interrupted request may have left work behind
            draws = params.effective_coupling == "rejection"
            policy = self.policy.fresh() if draws else self.policy.begin()
            request = Request(prompt, params, policy, transcript)
            trace = self.lanes.begin()
            loop = RoundLoop(self._growth, self._verifier, self.lanes, trace)
            with loop.serving(request):
                while not request.finished:
                    (progress,) = loop.step([request])
                    if progress.tokens:
                        yield Chunk(*progress)
                wall_s = self.lanes.now()
            request.stats.finish(wall_s, trace)
            assert transcript.finish_reason is not None
            return Generation(
                prompt,
                transcript.token_ids,
                transcript.text,
                transcript.finish_reason,
                request.stats,
                trace,
            )
        finally:
            self._lock.release()


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


def default_lanes(pair: ModelPair, policy: Policy) -> Lanes:
    """Streams on a GPU; on a CPU disjoint cores for a policy that overlaps, else all by turns."""
    if pair.device.type == "cuda":
        return StreamLanes(pair.draft.device, pair.target.device)
    return ThreadLanes.for_overlap() if policy.overlaps else ThreadLanes.for_turns()
