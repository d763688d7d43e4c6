"""An engine's rounds in a thread of their own, and what they commit as coroutines see it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager

from specbranch.engine import Engine
from specbranch.generation import Generation, GenerationStream
from specbranch.request import Chunk

Event = tuple[int, Chunk | Generation]


class Rounds:
    """One thread for any number of streams: none holds a thread of its own while it waits.

    alive: whether it runs.
    """

    def __init__(self, engine: Engine) -> None:
        self.alive = False
        self._engine = engine
        self._wanted = threading.Event()
        self._round = asyncio.Event()  # the end of the round that runs; each has its own

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Rounds run within, while there are requests."""
        self.alive, self._loop = True, asyncio.get_running_loop()
        thread = asyncio.create_task(asyncio.to_thread(self._run))
        yield
        self.alive = False
        self._wanted.set()
        await thread

    async def follow(self, streams: Sequence[GenerationStream]) -> AsyncGenerator[Event, None]:
        """What rounds commit, by the place of its stream, and last what each stream came to.

        Closing the iterator cancels what has not ended.
        """
        unended = dict(enumerate(streams))
        try:
            self._wanted.set()
            while unended:
                running = self._round  # taken before looking, so that no round's end is missed
                for place, stream in list(unended.items()):
                    generation = stream.generation  # asked first: no chunk comes after it
                    for chunk in stream.ready():
                        yield place, chunk
                    if generation:
                        del unended[place]
                        yield place, generation
                if unended:
                    await running.wait()
        finally:
            for stream in unended.values():  # which waits for a round, and must not hold the loop
                self._loop.run_in_executor(None, stream.close)

    def _run(self) -> None:
        while self.alive:
            try:
                more = self._engine.step()
            except Exception:  # the round's requests have ended by it, and their clients are told
                logging.getLogger(__name__).exception("a round failed")
                more = True
            self._loop.call_soon_threadsafe(self._tell)
            if not more:
                self._wanted.wait()
                self._wanted.clear()

    def _tell(self) -> None:
        """Wake all that wait for the end of a round."""
        self._round, ended = asyncio.Event(), self._round
        ended.set()
