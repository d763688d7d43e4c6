"""The methods of the comparisons, and the parameters that each is swept over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from specbranch.policies import Policy, make_policy

MAX_NODES = 256  # of a model's block


@dataclass(frozen=True, slots=True)
class Variant:
    """A method with its parameters. label: its row in the tables."""

    label: str
    method: str
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def key(self) -> str:
        return json.dumps([self.label, dict(self.options)], sort_keys=True)

    def policy(self) -> Policy:
        return make_policy(self.method, **dict(self.options))

    def parameters(self) -> str:
        return ", ".join(f"{name} {value:g}" for name, value in self.options) or "-"


@dataclass(frozen=True, slots=True)
class Sweep:
    """All combinations of some parameters of one method; without any, the method as it is."""

    label: str
    method: str
    grid: Mapping[str, tuple[Any, ...]]

    def variants(self) -> list[Variant]:
        points = (
            dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())
        )
        return [Variant(self.label, self.method, tuple(sorted(point.items()))) for point in points]


def sweeps(c: int) -> list[Sweep]:
    """What is swept where a target forward takes c draft steps, plain decoding first."""
    branching = {
        "k_max": (4, 8),
        "gamma": (c // 2, c),
        "epsilon": (0.1, 0.3, 0.5, 0.7, 0.9),
    }
    return [
        Sweep("ar", "ar", {}),
        Sweep("sps", "sps", {"gamma": (1, 2, 4, 6, 8, 12, 16, 24)}),
        Sweep("adaedl", "adaedl", {"gamma": (c // 2, 2 * c), "threshold": (0.1, 0.3, 0.6)}),
        Sweep("pearl", "pearl", {"gamma": (c // 2, c)}),
        Sweep("specbranch", "specbranch", branching),
        Sweep("ssd", "ssd", {"fan_out": (2, 4), "gamma": (c // 2, c, 2 * c)}),
        Sweep("bestfirst 8/32", "bestfirst", {"rows_draft": (8,), "rows_target": (32,)}),
        Sweep("bestfirst", "bestfirst", {"rows_draft": (2, 4), "rows_target": (8, 16)}),
        Sweep("auto", "auto", {}),
    ]


def coarse_sweeps(c: int) -> list[Sweep]:
    """The drafting methods at fewer values, for many settings. PEARL's gamma is c, as in its closed
    form."""
    grids: dict[str, dict[str, tuple[Any, ...]]] = {
        "sps": {"gamma": (1, 2, 4, 8, 16)},
        "adaedl": {"gamma": (2 * c,), "threshold": (0.3, 0.6)},
        "pearl": {"gamma": (c,)},
        "specbranch": {"k_max": (8,), "gamma": (c,), "epsilon": (0.3, 0.6, 0.9)},
        "ssd": {"fan_out": (4,), "gamma": (max(2, c // 2), c)},
        "bestfirst 8/32": {},
        "auto": {},
    }
    swept = {sweep.label: sweep for sweep in sweeps(c)}
    return [
        replace(swept[label], grid={**swept[label].grid, **grid}) for label, grid in grids.items()
    ]
