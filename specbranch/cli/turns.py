"""The turns of `specbranch chat`."""

from __future__ import annotations

import sys

from rich.console import Console

from specbranch.cli.streaming import ended, print_logprobs, show
from specbranch.engine import Engine
from specbranch.sampling import SamplingParams

HELP = "/reset begins anew, /quit or Ctrl-D ends, Ctrl-C ends an answer"


class Chat:
    """The turns so far. Answers go to standard output, all else to standard error.

    system: what the model is told first, if anything.
    """

    def __init__(self, engine: Engine, params: SamplingParams, system: str | None) -> None:
        self._engine = engine
        self._params = params
        self._console = Console()
        self._notes = Console(stderr=True)
        self._opening = [{"role": "system", "content": system}] if system else []
        self.messages = [*self._opening]

    def run(self) -> None:
        """Take turns until the input ends."""
        self._note(HELP)
        while True:
            try:
                line = input("> " if sys.stdin.isatty() else "").strip()
            except (EOFError, KeyboardInterrupt):
                return
            if line == "/quit":
                return
            if line == "/reset":
                self.messages = [*self._opening]
            elif line.startswith("/"):
                self._note(HELP)
            elif line:
                self._turn(line)

    def _turn(self, line: str) -> None:
        """Answer a line; one that cannot be answered leaves the turns as they were."""
        self.messages.append({"role": "user", "content": line})
        known = self._engine.stats()["prefix_hits"]
        try:
            stream = self._engine.stream(self.messages, self._params)
        except ValueError as error:
            self.messages.pop()
            self._note(f"error: {error} ({HELP})")
            return
        interrupted = False
        try:
            show(self._console, self._engine, stream)
        except KeyboardInterrupt:
            stream.close()
            self._console.out()
            interrupted = True
        generation = ended(stream, interrupted)
        self.messages.append({"role": "assistant", "content": generation.text})
        print_logprobs(generation, self._engine.pair.tokenizer)
        stats, read = generation.stats, len(generation.prompt_token_ids)
        reused = int(self._engine.stats()["prefix_hits"]) - int(known)
        self._note(
            f"{stats.tokens} tokens, first after {stats.first_token_s:.2f} s, then "
            f"{stats.pace:.1f} tok/s; {stats.mean_accepted_length:.2f} a target forward, accepted "
            f"{stats.acceptance_rate:.0%}; {read} tokens before, {reused} of them known already"
        )

    def _note(self, text: str) -> None:
        self._notes.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)
