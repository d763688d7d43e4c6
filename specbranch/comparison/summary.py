"""The figures of a method over many runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from specbranch.comparison.baseline import BASELINE
from specbranch.comparison.runs import FIGURES, Run
from specbranch.stats import Stats


def summarise(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """Each method's figures over all its runs, from sums of counts and of seconds.

    runs: with the baseline's among them.
    """
    by_method: dict[str, list[Run]] = {}
    for run in runs:
        by_method.setdefault(run.method, []).append(run)
    baseline_speed = _pooled(by_method[BASELINE]).tokens_per_s
    return {method: _summary(group, baseline_speed) for method, group in by_method.items()}


def _pooled(runs: Sequence[Run]) -> Stats:
    return Stats.pooled([run.generation.stats for run in runs])


def _summary(runs: Sequence[Run], baseline_speed: float) -> dict[str, Any]:
    stats = _pooled(runs)
    host_s = [run.host_s for run in runs if run.host_s is not None]
    compared = [run.identical for run in runs if run.identical is not None]
    return {
        "runs": len(runs),
        "tokens": stats.tokens,
        "wall_s": stats.wall_s,
        **({"host_s": sum(host_s)} if host_s else {}),
        "tokens_per_s": stats.tokens_per_s,
        "speedup": stats.tokens_per_s / baseline_speed if baseline_speed else None,
        **{figure: getattr(stats, figure) for figure in FIGURES},
        "cost_ratio": stats.cost_ratio,
        "identical_to_ar": all(compared) if compared else None,
        "identical_runs": sum(compared),
        "divergences": [
            {"prompt": index, "position": run.divergence.position}
            | {"ar_margin": run.divergence.margin}
            for index, run in enumerate(runs)
            if run.divergence
        ],
    }
