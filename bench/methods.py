"""The methods of the comparisons, and the parameters that each is swept over."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any, NamedTuple

from specbranch.policies import Policy, make_policy

MAX_NODES = 256  # of a model's block


class Variant(NamedTuple):
    """A method with its parameters. label: its row in the tables."""

    label: str
    method: str
    options: tuple[tuple[str, Any], ...] = ()

    def policy(self) -> Policy:
        return make_policy(self.method, **dict(self.options))

    def parameters(self) -> str:
        return ", ".join(f"{name} {value:g}" for name, value in self.options) or "-"


class Sweep(NamedTuple):
    """All combinations of some parameters of one method; without any, the method as it is."""

    label: str
    method: str
    grid: Mapping[str, tuple[Any, ...]]

    def variants(self) -> list[Variant]:
        points = product(*([(name, value) for value in self.grid[name]] for name in self.grid))
        return [Variant(self.label, self.method, point) for point in points]


def sweeps(c: int) -> list[Sweep]:
    """The drafting methods where a target forward takes c draft steps."""
    lengths = {"gamma": (c // 2, c)}
    branching = {"k_max": (8,), "epsilon": (0.1, 0.3, 0.5, 0.7, 0.9)}
    return [
        Sweep("sps", "sps", {"gamma": (1, 2, 4, 8, 16)}),
        Sweep("adaedl", "adaedl", {"gamma": (2 * c,), "threshold": (0.1, 0.3, 0.6)}),
        Sweep("pearl", "pearl", lengths),
        Sweep("specbranch", "specbranch", lengths | branching),
        Sweep("ssd", "ssd", lengths | {"fan_out": (4,)}),
        Sweep("bestfirst 8/32", "bestfirst", {"rows_draft": (8,), "rows_target": (32,)}),
        Sweep("bestfirst", "bestfirst", {"rows_draft": (2, 4), "rows_target": (8, 16)}),
        Sweep("auto", "auto", {}),
    ]
