"""What `specbranch compare` tells of its runs."""

from __future__ import annotations

from collections.abc import Sequence
from json import dumps
from pathlib import Path

from rich.console import Console

from specbranch.comparison import report
from specbranch.comparison.runs import Run
from specbranch.comparison.summary import summarise
from specbranch.files import write_whole


def tell(runs: Sequence[Run], json: Path | None) -> None:
    """Print the table and write the file, each also where the other fails; nothing without runs."""
    if not runs:
        return
    summary = summarise(runs)
    try:
        console = Console()
        console.print(report.terminal_table(report.comparison_rows(summary)))
        machine = report.machine_line(runs[0].env)
        for line in (*report.divergence_lines(summary), machine, report.LEGEND):
            console.print(line, style="dim", markup=False, highlight=False)
    finally:
        if json:
            record = {"runs": [run.as_json() for run in runs], "summary": summary}
            write_whole(json, dumps(record, indent=1))
