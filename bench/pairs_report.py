"""The comparison of `bench.pairs` as JSON, Markdown and a picture."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from matplotlib.figure import Figure

from bench import markdown
from bench.goals import schedule_goals
from bench.recordings import SETS
from specbranch.files import write_whole
from specbranch.pictures import method_color, save_picture
from specbranch.stats import Stats

COUNTS = [each.name for each in fields(Stats) if isinstance(each.default, int | float)]
SHARES = {
    "rollback": "rollback_rate",
    "of all drafted": "rollback_of_all",
    "all waste": "waste_of_all",
    "overlap": "overlap",
}
HEADER = ("method", "parameters", "speedup", *SETS, "M", "accepted", *SHARES)
HEADER += ("rolled back per token",)

Row = dict[str, Any]
Result = Mapping[str, Any]


def write_report(folder: Path, pair: Mapping[str, str], results: Sequence[Result]) -> None:
    """Write pairs-NAME.json, .md and .png."""
    folder.mkdir(parents=True, exist_ok=True)
    sections = [{**result, "methods": summarised(result["methods"])} for result in results]
    path = folder / f"pairs-{pair['name']}"
    write_whole(path.with_suffix(".json"), json.dumps({**pair, "settings": sections}, indent=1))
    write_whole(path.with_suffix(".md"), "\n".join(_markdown(pair, sections)) + "\n")
    save_picture(_draw(pair, sections), path.with_suffix(".png"))


def summarised(methods: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The figures of each method over all cases, the baseline's first."""
    baseline = methods[0]["cases"]
    return [_summary(method, baseline) for method in methods]


def _summary(method: Mapping[str, Any], baseline: Sequence[Mapping[str, Any]]) -> Row:
    cases = method["cases"]
    speedups = {
        name: geometric_mean(
            plain["wall_s"] / case["wall_s"]
            for case, plain in zip(cases, baseline, strict=True)
            if name in ("all", case["prompts"])
        )
        for name in ("all", *SETS)
    }
    stats = Stats.pooled([stats_of(case) for case in cases])
    drafted = stats.accepted_main + stats.accepted_branch
    drafted += stats.discarded_main + stats.discarded_branch
    return {
        "label": method["label"],
        "parameters": method["parameters"],
        "speedups": speedups,
        "mean_accepted_length": stats.mean_accepted_length,
        "acceptance_rate": stats.acceptance_rate,
        "rollback_rate": stats.rollback_rate,
        "rollback_of_all": _share(stats.discarded_main, drafted),
        "waste_of_all": stats.discarded_rate,
        "rolled_back_per_token": stats.rolled_back_per_token,
        "overlap": stats.overlap,
        "pooled": counts_of(stats),
        "swept": method["swept"],
    }


def counts_of(stats: Stats) -> dict[str, float]:
    """What of a request's stats is a number."""
    return {name: getattr(stats, name) for name in COUNTS}


def stats_of(case: Mapping[str, Any]) -> Stats:
    """The stats that `counts_of` was taken of, without their lists."""
    return Stats(**{name: case[name] for name in COUNTS})


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _markdown(pair: Mapping[str, str], sections: Sequence[Result]) -> Iterator[str]:
    yield f"# Pair: {pair['name']}"
    yield f"\nTarget {pair['target']}, draft {pair['draft']}; the first prompts of each set."
    for section in sections:
        methods = section["methods"]
        yield f"\n## {section['clock']}, temperature {section['temperature']:g}\n"
        yield from markdown.table(HEADER, *map(_cells, methods))
        if "free" in section["clock"]:
            yield ""
            yield from (f"- {verdict}" for verdict in schedule_goals(methods))


def _cells(method: Row) -> list[str]:
    speedups = (method["speedups"][name] for name in ("all", *SETS))
    return [
        method["label"],
        method["parameters"],
        *(f"{speedup:.2f}x" for speedup in speedups),
        f"{method['mean_accepted_length']:.2f}",
        f"{method['acceptance_rate']:.0%}",
        *(f"{method[share]:.0%}" for share in SHARES.values()),
        f"{method['rolled_back_per_token']:.2f}",
    ]


def _draw(pair: Mapping[str, str], sections: Sequence[Result]) -> Figure:
    figure = Figure(figsize=(11, 2.6 * ((len(sections) + 1) // 2)), layout="constrained")
    panels = figure.subplots((len(sections) + 1) // 2, 2, squeeze=False, sharex=True).flat
    for panel, section in zip(panels, sections, strict=False):
        methods = section["methods"]
        speedups = [method["speedups"]["all"] for method in methods]
        labels = [method["label"] for method in methods]
        bars = panel.barh(labels, speedups, color=list(map(method_color, labels)))
        panel.bar_label(bars, fmt="%.2f", padding=2, fontsize=7)
        panel.invert_yaxis()
        panel.tick_params(labelsize=7)
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_title(f"{section['clock']}, T={section['temperature']:g}", fontsize=8)
        panel.set_xlabel("speedup over plain decoding", fontsize=7)
    figure.suptitle(f"{pair['target']} with draft {pair['draft']}", fontsize=9)
    return figure
