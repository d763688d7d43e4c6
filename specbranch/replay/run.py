"""Replaying requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from specbranch.costs.model import CostModel
from specbranch.lanes import VirtualLanes
from specbranch.loop import RoundLoop
from specbranch.policies.base import Outlook, Policy
from specbranch.replay.drafter import ReplayDrafter
from specbranch.replay.laws import LawSource
from specbranch.replay.recording import Recording
from specbranch.replay.verifier import ReplayVerifier
from specbranch.stats import Stats
from specbranch.stopping import Committer
from specbranch.trace import Trace


@dataclass(frozen=True, slots=True)
class Replay:
    """A replayed request; the token ids are the recording's again."""

    token_ids: list[int]
    stats: Stats
    trace: Trace


class Replayer:
    """What an engine is without models: a policy, the virtual clock, requests one at a time.

    costs: what the forwards cost. max_nodes: size of each model's block, as for Engine.
    """

    def __init__(self, policy: Policy, costs: CostModel, *, max_nodes: int = 128) -> None:
        self.policy = policy
        self._lanes = VirtualLanes(costs)
        self._drafter = ReplayDrafter(self._lanes.draft, max_nodes, policy.max_fan)
        self._verifier = ReplayVerifier(self._lanes.target, max_nodes)

    def replay(
        self,
        recording: Recording,
        source: LawSource,
        outlooks: Sequence[Outlook] | None = None,
    ) -> Replay:
        """What the engine would do on the recorded request.

        Like an engine it keeps what earlier requests taught.

        source: the draft's laws around the recorded text.
        outlooks: what H-RAD expects below each token of the text, None without H-RAD.
        """
        params = recording.params
        committer = Committer(None, recording.eos_token_ids, (), params.max_new_tokens)
        trace = self._lanes.begin()
        self._drafter.follow(recording.text, source)
        self._verifier.follow(recording.text, outlooks)
        loop = RoundLoop(
            self._drafter,
            self._verifier,
            self.policy,
            self._lanes,
            committer,
            recording.prompt,
            params,
            trace,
        )
        for _ in loop.run():
            pass
        loop.stats.finish(self._lanes.now(), trace)
        return Replay(committer.token_ids, loop.stats, trace)
