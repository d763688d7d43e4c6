"""Our methods, all open at once on lanes that they share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from specbranch.engine import Engine, default_lanes
from specbranch.lanes import Lanes
from specbranch.models.pair import ModelPair
from specbranch.policies import make_policy


@contextmanager
def open_engines(
    pair: ModelPair, methods: Sequence[str], max_len: int
) -> Iterator[dict[str, Engine]]:
    """An engine for each method.

    Those that overlap have one pair of lanes, the others another, each as it would have alone: the
    OpenMP threads of many pools would be more than the cores, and then libgomp lets them sleep
    between operations.
    """
    policies = {method: make_policy(method) for method in methods}
    lanes: dict[bool, Lanes] = {}
    with ExitStack() as stack:
        for policy in policies.values():
            if policy.overlaps not in lanes:
                lanes[policy.overlaps] = stack.enter_context(default_lanes(pair, policy))
        yield {
            method: Engine(pair, policy, lanes=lanes[policy.overlaps], max_len=max_len)
            for method, policy in policies.items()
        }
