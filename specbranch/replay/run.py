"""Replaying requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from specbranch.costs.model import CostModel
from specbranch.growth import Experience, Growth
from specbranch.lanes import VirtualLanes
from specbranch.loop import RoundLoop
from specbranch.policies.base import Outlook, Policy
from specbranch.replay.laws import LawSource
from specbranch.replay.recording import Recording
from specbranch.replay.source import RecordedSource
from specbranch.replay.target import RecordedTarget
from specbranch.request import Request
from specbranch.stats import Stats
from specbranch.stopping import Transcript
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
        self._max_nodes = max_nodes
        self._experience = Experience()

    def replay(
        self,
        recording: Recording,
        laws: LawSource,
        outlooks: Sequence[Outlook] | None = None,
    ) -> Replay:
        """What the engine would do on the recorded request.

        Like an engine it keeps what earlier requests taught.

        laws: the draft's, around the recorded text.
        outlooks: what H-RAD expects below each token of the text, None without H-RAD.
        """
        params, text, lanes = recording.params, recording.text, self._lanes
        transcript = Transcript(None, recording.eos_token_ids, (), params.max_new_tokens)
        request = Request(recording.prompt, params, self.policy.begin(), transcript)
        source = RecordedSource(text, laws, max_nodes=self._max_nodes, max_fan=self.policy.max_fan)
        target = RecordedTarget(lanes.target, text, outlooks, max_rows=self._max_nodes)
        loop = RoundLoop(Growth(source, lanes.draft, self._experience), target, lanes)
        loop.begin(request)
        while not request.finished:
            loop.step([request])
        loop.end(request)
        if request.error:
            raise request.error
        return Replay(transcript.token_ids, request.stats, request.trace)
