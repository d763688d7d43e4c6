"""Runs to figures: for each contender, by category and over all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.decoding.records import Key, Record
from specbranch.comparison.baseline import BASELINE
from specbranch.stats import Stats

OVERALL = "overall"


@dataclass(frozen=True, slots=True)
class Figures:
    """What a contender's runs come to.

    runs: of how many the baseline made. Speeds are tokens over seconds, from the call to its
    return, prefill included. speedup: this contender's speed over the baseline's on the same
    prompts, the median over the repetitions; speedups: each repetition's. first_token_s: the
    median. compared, identical: texts that had to be the baseline's, and those that are. stats: of
    all runs together. drafts: whether its stats tell of drafting.
    """

    runs: int
    wanted: int
    tokens: int
    tokens_per_s: float
    speedup: float
    speedups: tuple[float, ...]
    first_token_s: float
    compared: int
    identical: int
    stats: Stats

    @property
    def drafts(self) -> bool:
        return self.stats.draft_forwards > 0


Table = dict[str, dict[str, Figures]]  # by contender, then by category


def tabulate(records: Iterable[Record], contenders: Sequence[str]) -> Table:
    """The figures of each contender that has runs, by category, then over all.

    Raises ValueError if the baseline lacks a run that another has.
    """
    runs = list(records)
    baseline = {_case(run): run for run in runs if run["contender"] == BASELINE}
    table: Table = {}
    for name in contenders:
        mine = [run for run in runs if run["contender"] == name]
        if not mine:
            continue
        scopes = {run["category"]: [run] for run in runs}  # for their order
        for scope in scopes:
            scopes[scope] = [run for run in mine if run["category"] == scope]
        scopes[OVERALL] = mine
        table[name] = {
            scope: _figures(group, baseline, scope) for scope, group in scopes.items() if group
        }
    return table


def _figures(
    runs: Sequence[Record], baseline: Mapping[tuple[object, ...], Record], scope: str
) -> Figures:
    missing = [_case(run) for run in runs if _case(run) not in baseline]
    if missing:
        raise ValueError(f"records: expected a run of {BASELINE} for each, got none for {missing}")
    by_repeat: dict[int, list[Record]] = {}
    for run in runs:
        by_repeat.setdefault(run["repeat"], []).append(run)
    speedups = tuple(
        _speed(group) / _speed([baseline[_case(run)] for run in group])
        for _, group in sorted(by_repeat.items())
    )
    compared = [run["identical_to_ar"] for run in runs if run["identical_to_ar"] is not None]
    return Figures(
        runs=len(runs),
        wanted=sum(scope in (OVERALL, run["category"]) for run in baseline.values()),
        tokens=sum(run["tokens"] for run in runs),
        tokens_per_s=_speed(runs),
        speedup=median(speedups),
        speedups=speedups,
        first_token_s=median(run["first_token_s"] for run in runs),
        compared=len(compared),
        identical=sum(compared),
        stats=Stats.pooled([Stats(**run["stats"]) for run in runs]),
    )


def _speed(runs: Sequence[Record]) -> float:
    return sum(run["tokens"] for run in runs) / sum(run["wall_s"] for run in runs)


def _case(run: Record) -> tuple[object, ...]:
    return tuple(run[name] for name in Key._fields if name != "contender")
