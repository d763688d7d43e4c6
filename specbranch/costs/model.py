"""What forwards cost under a virtual clock: as measured, as published, or as supposed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class RowCosts:
    """Seconds of a forward as a function of its rows.

    Linear between measured row counts, and beyond the last one as between the last two.
    """

    rows: tuple[int, ...]
    seconds: tuple[float, ...]

    def __call__(self, rows: int) -> float:
        if rows <= self.rows[-1] or len(self.rows) == 1:
            return float(np.interp(rows, self.rows, self.seconds))
        (before, last), (earlier, latest) = self.rows[-2:], self.seconds[-2:]
        slope = max(0.0, (latest - earlier) / (last - before))
        return latest + slope * (rows - last)


@dataclass(frozen=True, slots=True)
class LaneCosts:
    """What one lane's forwards cost.

    rows: seconds of a forward by its rows.
    contention: how many times as long a forward takes while the other lane is busy, on one device;
        1 on two.
    """

    rows: RowCosts
    contention: float = 1.0


@dataclass(frozen=True, slots=True)
class CostModel:
    """What a draft and a target forward cost.

    launch: seconds from a forward's submission to its start, if its lane is idle.
    sync: seconds from a forward's end to its result in the caller's hands.
    unit: what a second of the clock stands for.
    """

    name: str
    draft: LaneCosts
    target: LaneCosts
    launch: float = 0.0
    sync: float = 0.0
    unit: str = "s"

    @classmethod
    def parse(cls, clock: str) -> CostModel:
        """Read a `--clock`.

        `virtual:c=X`: a draft step costs 1, a target forward X, rows are free.
        `virtual:NAME`: one of PRESETS, c as inferred for a pair of the paper, rows free.
        `virtual:FILE`: JSON as `specbranch calibrate` writes it, seconds by rows for `draft` and
        `target`; optionally `launch` and `sync`, and `contention` with a factor for each lane.

        Raises ValueError if it is none of these.
        """
        kind, _, spec = clock.partition(":")
        if kind != "virtual" or not spec:
            raise ValueError(
                f"clock: expected virtual:c=X, virtual:FILE or virtual:NAME, got {clock!r}"
            )
        if spec.startswith("c="):
            return cls.rows_free(clock, _positive(spec[2:], clock))
        if spec in PRESETS:
            return cls.rows_free(clock, PRESETS[spec])
        try:
            return cls._from_json(clock, json.loads(Path(spec).read_text()))
        except (OSError, LookupError, TypeError, AttributeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"clock: expected a JSON file of seconds by rows for draft and target, "
                f"or one of {', '.join(PRESETS)}, got {spec!r}: {error}"
            ) from error

    @classmethod
    def rows_free(cls, name: str, c: float) -> CostModel:
        """A draft step is the unit, a target forward takes c, whatever their rows."""
        draft, target = (LaneCosts(RowCosts((1,), (seconds,))) for seconds in (1.0, c))
        return cls(name, draft, target, unit="draft step")

    @classmethod
    def _from_json(cls, name: str, costs: Mapping[str, Any]) -> CostModel:
        contention = costs.get("contention", {})
        draft, target = (
            LaneCosts(_by_rows(costs[lane]), _at_least(1.0, contention.get(lane, 1.0)))
            for lane in ("draft", "target")
        )
        launch, sync = (_at_least(0.0, costs.get(key, 0.0)) for key in ("launch", "sync"))
        return cls(name, draft, target, launch, sync)


# c = T_target / T_draft of the pairs in arXiv 2506.01979, rows free. The paper does not print it;
# it is inferred from the draft lengths in public scripts, on the rule that the best one is about c:
# PEARL's (github.com/smart-lty/ParallelSpeculativeDecoding) for LLaMA and DeepSeek, serial
# decoding's in SpecBranch's (github.com/Sylvan820/Specbranch) for Vicuna; LLaMA-3.1's is that of
# another 7B/70B pair.
PRESETS = {
    "llama-68m-7b": 7.0,
    "vicuna-68m-13b": 8.0,
    "deepseek-1.3b-33b": 4.0,
    "llama-3.1-8b-70b": 5.0,
}


def _by_rows(costs: Mapping[str, float]) -> RowCosts:
    points = sorted((int(rows), float(seconds)) for rows, seconds in costs.items())
    if not points or min(seconds for _, seconds in points) <= 0:
        raise ValueError("expected at least one cost, and positive ones")
    return RowCosts(*zip(*points, strict=True))


def _at_least(least: float, value: Any) -> float:
    if not least <= float(value) < float("inf"):
        raise ValueError(f"expected a number of at least {least:g}, got {value!r}")
    return float(value)


def _positive(text: str, clock: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ValueError(f"clock: expected a positive number after c=, got {clock!r}")
    return value
