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
from specbranch.replay.recorded import Recorded
from specbranch.replay.recording import Recording
from specbranch.replay.source import RecordedSource
from specbranch.replay.target import RecordedTarget
from specbranch.request import Request
from specbranch.scheduler import Scheduler
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
    """What an engine is without models: a policy, the virtual clock, requests.

    costs: what the forwards cost. max_nodes: size of each model's block, as for Engine.
    max_requests: that run at a time.
    seconds: of the clock, that the latest requests took together.
    """

    def __init__(
        self, policy: Policy, costs: CostModel, *, max_nodes: int = 128, max_requests: int = 1
    ) -> None:
        self.policy = policy
        self._lanes = VirtualLanes(costs)
        self._max_nodes = max_nodes
        self._max_requests = max_requests
        self._experience = Experience()
        self.seconds = 0.0

    def replay(
        self,
        recording: Recording,
        laws: LawSource,
        outlooks: Sequence[Sequence[Outlook]] | None = None,
    ) -> Replay:
        """What the engine would do on the recorded request.

        Like an engine it keeps what earlier requests taught.

        laws: the draft's, around the recorded text.
        outlooks: what H-RAD expects along the text, see `Recorded`.
        """
        (replay,) = self.replay_all([Recorded(recording, laws, outlooks)])
        return replay

    def replay_all(self, recorded: Sequence[Recorded]) -> list[Replay]:
        """What the engine would do on requests that come all at once."""
        requests = {self._request(each.recording): each for each in recorded}
        lanes, max_nodes = self._lanes, self._max_nodes
        source = RecordedSource(requests, max_nodes=max_nodes, max_fan=self.policy.max_fan)
        target = RecordedTarget(lanes.target, requests, max_rows=max_nodes)
        loop = RoundLoop(Growth(source, lanes.draft, self._experience), target, lanes)
        scheduler = Scheduler(loop, self._max_requests)
        for request in requests:
            scheduler.add(request)
        self.seconds, going = 0.0, True
        while going:
            going = scheduler.step()
            if not scheduler.num_running:  # the clock starts anew
                self.seconds += lanes.now()
        for request in requests:
            if request.error:
                raise request.error
        return [
            Replay(request.transcript.token_ids, request.stats, request.trace.since(request.began))
            for request in requests
        ]

    def _request(self, recording: Recording) -> Request:
        params = recording.params
        transcript = Transcript(None, recording.eos_token_ids, (), params.max_new_tokens)
        return Request(recording.prompt, params, self.policy.begin(), transcript)
