"""What is compared: one pair of models, and an engine for each method on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from specbranch.checks import require
from specbranch.comparison.methods import Options
from specbranch.costs.model import CostModel
from specbranch.engine import Engine, default_lanes, works_at_once
from specbranch.hrad.model import HRad
from specbranch.info import environment
from specbranch.lanes import Lanes, MixedLanes, ThreadLanes, VirtualLanes
from specbranch.lanes.threads import usable_cores
from specbranch.loading.pair import ModelPair
from specbranch.policies import Policy, make_policy

WALL_CLOCK = "wall"


@dataclass(frozen=True, slots=True)
class Session:
    """A loaded pair, and how its engines are built.

    policy_options: of each method that has some.
    costs: the virtual clock's cost model, None for the wall clock.
    draft_threads, target_threads: of the lanes, None for what suits the method.
    hrad: for the methods that read what it foresees.
    source: who guesses; see Engine.
    """

    pair: ModelPair
    policy_options: Mapping[str, Options] = field(default_factory=dict)
    costs: CostModel | None = None
    draft_threads: int | None = None
    target_threads: int | None = None
    hrad: HRad | None = None
    source: str = "model"

    @contextmanager
    def engine(self, method: str, max_len: int, max_requests: int = 1) -> Iterator[Engine]:
        """An engine for a method, on lanes of its own.

        max_len: tokens of prompt and output together, at most. max_requests: that run at a time.
        """
        policy = make_policy(method, **self.policy_options.get(method, {}))
        with self._open_lanes(policy) as lanes:
            engine = Engine(
                self.pair,
                policy,
                source=self.source,
                lanes=lanes,
                hrad=self.hrad,
                max_len=max_len,
                max_requests=max_requests,
            )
            with engine:
                yield engine

    def baseline(self) -> Session:
        """The session without its thread options: decoding alone takes all cores it can use."""
        return replace(self, draft_threads=None, target_threads=None)

    def environment(self, lanes: Lanes) -> dict[str, Any]:
        """The machine, the pair and the clock behind a figure."""
        return {
            **environment(self.pair.device),
            "threads": {
                lane.name: getattr(lane, "threads", None) for lane in (lanes.draft, lanes.target)
            },
            "dtype": str(self.pair.dtype).removeprefix("torch."),
            "weights": self.pair.weights,
            "target": self.pair.target_name,
            "draft": self.pair.draft_name,
            "source": self.source,
            "clock": self.costs.name if self.costs else WALL_CLOCK,
            "clock_unit": self.costs.unit if self.costs else "s",
        }

    def _open_lanes(self, policy: Policy) -> Lanes:
        draft, target = self.draft_threads, self.target_threads
        chosen = draft is not None or target is not None
        if self.costs is not None:
            require("threads", "none under a virtual clock", (draft, target), not chosen)
            return VirtualLanes(self.costs)
        if not chosen:
            return default_lanes(self.pair, works_at_once(policy, self.source))
        if self.pair.device.type != "cpu":
            streams = target is not None or self.pair.draft.device.type != "cpu"
            require("threads", "none for lanes that are CUDA streams", (draft, target), not streams)
            return MixedLanes(self.pair.device, draft)
        cores = len(usable_cores())

        def besides(other: int | None) -> int:
            return max(1, cores - (other or 0)) if policy.overlaps else cores

        return ThreadLanes(draft or besides(target), target or besides(draft))
