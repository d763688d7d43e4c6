"""What the schedules under the virtual clock share: costs, replays, and cells that are kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from bench.commit import commit
from bench.methods import MAX_NODES, Sweep, Variant
from specbranch.costs.model import CostModel, LaneCosts, RowCosts
from specbranch.files import write_whole
from specbranch.replay import (
    LawSource,
    Recording,
    Replayer,
    SyntheticLaws,
    rank_rates,
    synthetic_recording,
)
from specbranch.stats import Stats

CONCENTRATION = 2.0  # easy and hard places: at 0.75 the beta law has parameters 1.5 and 0.5
RATES = ("mean_accepted_length", "acceptance_rate", "rollback_rate", "discarded_rate", "overlap")
RATES += ("rolled_back_per_token",)

Cell = dict[str, Any]
Requests = Callable[[], Iterable[tuple[Recording, LawSource]]]


def synthetic(alignment: float, tokens: int) -> Requests:
    """One text, and a draft whose first guess is right with this chance in the mean."""
    return lambda: [
        (
            synthetic_recording(tokens),
            SyntheticLaws(rank_rates(alignment), concentration=CONCENTRATION),
        )
    ]


def free(c: float) -> CostModel:
    return CostModel.rows_free(f"c={c:g}", c)


def with_ratio(measured: CostModel, c: float) -> CostModel:
    """The measured growth with the rows, for a draft step of one row that takes 1 and a target
    forward of one row that takes c, each on a device of its own."""

    def scaled(costs: RowCosts, seconds: float) -> LaneCosts:
        unit = costs(1) / seconds
        return LaneCosts(RowCosts(costs.rows, tuple(each / unit for each in costs.seconds)))

    return CostModel(
        f"{measured.name}, c={c:g}", scaled(measured.draft.rows, 1), scaled(measured.target.rows, c)
    )


def replayed(variant: Variant, costs: CostModel, requests: Requests) -> list[Stats]:
    """The requests one after another, as one engine serves them."""
    replayer = Replayer(variant.policy(), costs, max_nodes=MAX_NODES)
    runs = []
    for recording, laws in requests():
        replay = replayer.replay(recording, laws)
        if replay.token_ids != list(recording.text):
            raise RuntimeError(f"{variant}: wrote another text than the recorded one")
        runs.append(replay.stats)
    return runs


def speedups(runs: Sequence[Stats], costs: CostModel) -> list[float]:
    """Over plain decoding, which takes a target forward of one row for each token."""
    return [costs.target.rows(1) * run.tokens / run.wall_s for run in runs]


def figures(runs: Sequence[Stats], costs: CostModel) -> Cell:
    """The geometric mean of the speedups, and what all requests come to together."""
    pooled = Stats.pooled(runs)
    rates = {name: getattr(pooled, name) for name in RATES}
    return {"speedup": geometric_mean(speedups(runs, costs)), **rates}


def best(sweep: Sweep, costs: CostModel, requests: Requests) -> Variant:
    """The fastest on these requests."""
    variants = sweep.variants()
    if len(variants) == 1:
        return variants[0]
    return max(
        variants,
        key=lambda each: geometric_mean(speedups(replayed(each, costs, requests), costs)),
    )


class Cells:
    """Results by name in a JSON file that is written as they come: an interrupted run goes on.

    Those of other code than this are made again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        kept = json.loads(path.read_text()) if path.is_file() else {}
        self._cells: dict[str, Cell] = kept["cells"] if kept.get("commit") == commit() else {}

    def cell(self, name: str, compute: Callable[[], Cell]) -> Cell:
        if name not in self._cells:
            self._cells[name] = compute()
            kept = {"commit": commit(), "cells": self._cells}
            write_whole(self._path, json.dumps(kept, indent=1) + "\n")
        return self._cells[name]
