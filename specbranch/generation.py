"""What a request comes to: its chunks as they are committed, and the finished text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from specbranch.logprobs import TokenLogprobs
from specbranch.request import Chunk, Request
from specbranch.scheduler import Scheduler
from specbranch.stats import Stats
from specbranch.stopping import FinishReason
from specbranch.trace import Trace

SHOWN = 200  # characters of a text that its repr has


@dataclass(frozen=True, slots=True, repr=False)
class Generation:
    """A request that has ended.

    error: what ended it, where the finish reason is "error"; the tokens are those before it.
    logprobs: of each token, where the request asks for them.
    """

    prompt_token_ids: list[int]
    token_ids: list[int]
    text: str
    finish_reason: FinishReason | Literal["error"]
    stats: Stats
    trace: Trace
    error: Exception | None = None
    logprobs: Sequence[TokenLogprobs] = ()

    def __repr__(self) -> str:
        """Its figures on a screen, without the ids and the spans."""
        stats, text = self.stats, self.text
        shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
        error = f", error={self.error!r}" if self.error else ""
        length = f"{len(self.token_ids)} tokens after a prompt of {len(self.prompt_token_ids)}"
        pace = f"{stats.wall_s:.2f} s, {stats.tokens_per_s:.1f} tok/s"
        drafting = f"M {stats.mean_accepted_length:.2f}, accepted {stats.acceptance_rate:.0%}"
        reason = f"finish_reason={self.finish_reason!r}{error}"
        return f"Generation({shown!r}, {length}, {reason}, {pace}, {drafting})"

    @classmethod
    def of(cls, request: Request) -> Generation:
        transcript = request.transcript
        return cls(
            request.prompt,
            transcript.token_ids,
            transcript.text,
            transcript.finish_reason or "error",
            request.stats,
            request.trace.since(request.began),
            request.error,
            request.logprobs,
        )


class GenerationStream(Iterator[Chunk]):
    """A request's chunks; `generation` is there once it has ended.

    Several threads may read streams of one engine: whoever finds no chunk runs the next round, for
    all requests. The request ends with its last chunk, with `close`, or when the stream is dropped.
    Where it ends with an error, that is raised after the last chunk.

    request: what rounds know of it.
    """

    def __init__(self, scheduler: Scheduler, request: Request) -> None:
        self._scheduler = scheduler
        self.request = request

    @cached_property
    def _generation(self) -> Generation:
        return Generation.of(self.request)

    @property
    def generation(self) -> Generation | None:
        """What the request came to; None before it has ended."""
        return self._generation if self.request.left else None

    @property
    def prompt_token_ids(self) -> list[int]:
        return self.request.prompt

    def __next__(self) -> Chunk:
        chunk = self._scheduler.next_chunk(self.request)
        if chunk is not None:
            return chunk
        if self.request.error:
            raise self.request.error
        raise StopIteration

    def ready(self) -> list[Chunk]:
        """The chunks that are there already, without running a round."""
        output = self.request.output
        return [output.popleft() for _ in range(len(output))]

    def close(self) -> None:
        """End the request where it is; a round that is running is waited for.

        `generation` then holds what was committed, with the finish reason "cancelled".
        """
        self.request.cancel()
        self._scheduler.let_go(self.request)
        self.request.output.clear()

    def __del__(self) -> None:
        self.request.cancel()
