"""What a command works with: one pair of models, and an engine for each method on it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from specbranch.checks import require
from specbranch.cli.methods import Options, options_by_method
from specbranch.cli.options import LaneOptions, ModelOptions, PolicyOptions
from specbranch.costs import CostModel
from specbranch.engine import Engine, default_lanes
from specbranch.hrad.model import HRad
from specbranch.lanes import Lanes, ThreadLanes, VirtualLanes
from specbranch.models.pair import ModelPair, load_pair
from specbranch.policies import POLICIES, Policy, make_policy

WALL_CLOCK = "wall"


@dataclass(frozen=True, slots=True)
class Session:
    """A loaded pair, and how its engines are built.

    costs: the virtual clock's cost model, None for the wall clock.
    hrad: for the methods that read what it foresees.
    """

    pair: ModelPair
    lanes: LaneOptions
    costs: CostModel | None
    policy_options: Mapping[str, Options]
    hrad: HRad | None = None

    @classmethod
    def open(
        cls,
        methods: Sequence[str],
        models: ModelOptions,
        lanes: LaneOptions,
        policies: PolicyOptions,
    ) -> Session:
        """Check the options, then load the models. Raises ValueError for what does not hold."""
        policy_options = options_by_method(methods, policies.given())
        if policies.hrad and not any(POLICIES[method].reads_outlook for method in methods):
            raise ValueError(f"--hrad: expected a method that reads it, got {', '.join(methods)}")
        wanted = "wall, virtual:c=X, virtual:FILE or virtual:NAME"
        known = lanes.clock == WALL_CLOCK or lanes.clock.startswith("virtual:")
        require("clock", wanted, lanes.clock, known)
        costs = None if lanes.clock == WALL_CLOCK else CostModel.parse(lanes.clock)
        pair = load_pair(models.target, models.draft, device=models.device, dtype=models.dtype)
        hrad = HRad.load(policies.hrad, pair) if policies.hrad else None
        return cls(pair, lanes, costs, policy_options, hrad)

    @contextmanager
    def engine(self, method: str, max_len: int) -> Iterator[Engine]:
        """An engine for one of the session's methods, on lanes of its own.

        max_len: tokens of prompt and output together, at most.
        """
        policy = make_policy(method, **self.policy_options[method])
        with self._open_lanes(policy) as lanes:
            yield Engine(self.pair, policy, lanes=lanes, hrad=self.hrad, max_len=max_len)

    def baseline(self) -> Session:
        """The session without its thread options: decoding alone takes all cores it can use."""
        return replace(self, lanes=replace(self.lanes, draft_threads=None, target_threads=None))

    def _open_lanes(self, policy: Policy) -> Lanes:
        draft, target = self.lanes.draft_threads, self.lanes.target_threads
        chosen = draft is not None or target is not None
        if self.costs is not None:
            require("threads", "none under a virtual clock", (draft, target), not chosen)
            return VirtualLanes(self.costs)
        if not chosen:
            return default_lanes(self.pair, policy)
        streams = self.pair.device.type != "cpu"
        require("threads", "none for lanes that are CUDA streams", (draft, target), not streams)
        cores = len(os.sched_getaffinity(0))

        def besides(other: int | None) -> int:
            return max(1, cores - (other or 0)) if policy.overlaps else cores

        return ThreadLanes(draft or besides(target), target or besides(draft))
