"""`specbranch compare`: a progress bar, a table, a file of all runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from specbranch.cli.comparison import compare, with_baseline
from specbranch.cli.loading import open_session
from specbranch.cli.methods import parse_methods
from specbranch.cli.options import LaneOptions, ModelOptions, PolicyOptions, SamplingOptions
from specbranch.cli.report import LEGEND, comparison_table, divergence_lines, machine_line
from specbranch.cli.runs import Run
from specbranch.cli.session import Session
from specbranch.cli.summary import summarise
from specbranch.files import write_whole
from specbranch.prompts import EXAMPLE_PROMPTS, read_prompts
from specbranch.sampling import SamplingParams


def compare_methods(
    models: ModelOptions,
    lanes: LaneOptions,
    sampling: SamplingOptions,
    policies: PolicyOptions,
    methods: str,
    prompts: Path | None,
    limit: int,
    output: Path | None,
) -> None:
    """Run the command."""
    params = sampling.params()
    names = with_baseline(parse_methods(methods))
    texts = EXAMPLE_PROMPTS[:limit]
    if prompts is not None:
        texts = tuple(record.prompt for record in read_prompts(prompts, limit))
    session = open_session(names, models, lanes, policies)
    runs = run_with_progress(session, names, texts, params)
    summary = summarise(runs)
    console = Console()
    console.print(comparison_table(summary))
    for line in (*divergence_lines(summary), machine_line(runs[0].env), LEGEND):
        console.print(line, style="dim", highlight=False)
    if output:
        write_whole(output, json.dumps(comparison_json(runs, summary), indent=1))


def run_with_progress(
    session: Session, methods: Sequence[str], prompts: Sequence[str], params: SamplingParams
) -> list[Run]:
    """All runs of a comparison. The bar is redrawn between runs only: a timed run has the cores."""
    columns = (TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn())
    bar = Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), auto_refresh=False)
    runs = []
    with bar:
        task = bar.add_task(methods[0], total=len(methods) * len(prompts))
        for run in compare(session, methods, prompts, params):
            runs.append(run)
            bar.update(task, advance=1, description=run.method, refresh=True)
    return runs


def comparison_json(runs: Sequence[Run], summary: dict[str, Any]) -> dict[str, Any]:
    """What `--json` writes."""
    return {"runs": [run.as_json() for run in runs], "summary": summary}
