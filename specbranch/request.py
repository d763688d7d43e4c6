"""A request: all that is one's own, from the prompt to the blocks in both models."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from specbranch.lanes import Pending
from specbranch.logprobs import TokenLogprobs
from specbranch.models.block import Block
from specbranch.policies.base import Policy
from specbranch.rules import Rule
from specbranch.sampling import SamplingParams
from specbranch.stats import Stats
from specbranch.stopping import Transcript
from specbranch.trace import Trace
from specbranch.tree import Reliability, Tree


class Chunk(NamedTuple):
    """What one round committed of a request: its tokens, and the text that can now be shown.

    logprobs: of each token, where the request asks for them.
    """

    token_ids: list[int]
    text: str
    logprobs: Sequence[TokenLogprobs] = ()


class Request:
    """One request, as the round loop and everything below it sees it.

    policy: its own, with its own state. transcript: takes what is committed, and ends the request.
    committed: prompt and output so far; the tree's root is its last token.
    tree: what may come next.
    reliability: how far guesses for it can be trusted.
    draft, target: its blocks in the two models, while it is in them.
    output: what rounds committed and nobody took yet.
    logprobs: of each token that rounds committed, where it asks for them.
    rules: what its text does to its logits; none by default.
    drawn: whether guesses are drawn and tested as draws; otherwise they are matched.
    laws: if they are drawn, the laws [V] that the children of the draft's nodes come from, by slot.
    draws: draft rows so far; where guesses are drawn each has noise of its own.
    hidden: if a source asks for them, the outputs [n, layers * hidden] of the target's last layers
        side by side, where the latest round walked: at the root of then and each guess that was
        right. That of the root of now is not known yet. None before the first round.
    ready: whether the prompt has been read, or its last part is about to be.
    reading: the target reading a chunk of the prompt, until that has been waited for.
    stats, trace: of its time in the loop, on the lanes' clock, from `began` on.
    left: whether the loop has let it go.
    error: why it ended without a finish reason, None where it did not.
    """

    draft: Block
    target: Block
    reliability: Reliability
    hidden: Tensor | None = None
    reading: Pending[None] | None = None
    rules: Sequence[Rule] = ()
    error: Exception | None = None
    ready = False
    left = False
    began = 0.0

    def __init__(
        self,
        prompt: Sequence[int],
        params: SamplingParams,
        policy: Policy,
        transcript: Transcript,
        drawn: bool = False,
    ) -> None:
        self.prompt = list(prompt)
        self.params = params
        self.policy = policy
        self.transcript = transcript
        self.committed = list(prompt)
        self.drawn = drawn
        self.tree = Tree(
            prompt[-1],
            coupling="rejection" if drawn else "gumbel",
            ends=transcript.ends,
            remaining=transcript.remaining,
        )
        self.laws: list[Tensor] = []
        self.draws = 0
        self.output: deque[Chunk] = deque()
        self.logprobs: list[TokenLogprobs] = []
        self.stats = Stats()
        self.trace = Trace()

    @property
    def max_len(self) -> int:
        """Tokens of prompt and output together, at most."""
        return len(self.committed) + self.transcript.remaining

    @property
    def finished(self) -> bool:
        return self.error is not None or self.transcript.finish_reason is not None

    def cancel(self) -> None:
        """End here, unless it has ended; also while a round runs."""
        if not self.finished:
            self.transcript.cancel()

    def fail(self, error: Exception) -> None:
        """End here; the first error is what is told."""
        self.error = self.error or error
