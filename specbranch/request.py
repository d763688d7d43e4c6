"""A request: all that is one's own, from the prompt to the blocks in both models."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from specbranch.lanes import Pending
from specbranch.models.block import Block
from specbranch.policies.base import Policy
from specbranch.sampling import SamplingParams
from specbranch.stats import Stats
from specbranch.stopping import Transcript
from specbranch.tree import Reliability, Tree


class Request:
    """One request, as the round loop and everything below it sees it.

    policy: its own, with its own state. transcript: takes what is committed, and ends the request.
    committed: prompt and output so far; the tree's root is its last token.
    tree: what may come next.
    reliability: how far guesses for it can be trusted.
    draft, target: its blocks in the two models, while it is in them.
    laws: under rejection the laws [V] that the children of the draft's nodes were drawn from, by
        slot; empty under gumbel.
    draws: draft rows so far; under rejection each has noise of its own.
    prefill: the target reading the prompt, until that has been waited for.
    """

    draft: Block
    target: Block
    reliability: Reliability
    prefill: Pending[None] | None = None

    def __init__(
        self,
        prompt: Sequence[int],
        params: SamplingParams,
        policy: Policy,
        transcript: Transcript,
    ) -> None:
        self.prompt = list(prompt)
        self.params = params
        self.policy = policy
        self.transcript = transcript
        self.committed = list(prompt)
        self.tree = Tree(
            prompt[-1],
            coupling=params.effective_coupling,
            ends=transcript.ends,
            remaining=transcript.remaining,
        )
        self.laws: list[Tensor] = []
        self.draws = 0
        self.stats = Stats()

    @property
    def finished(self) -> bool:
        return self.transcript.finish_reason is not None
