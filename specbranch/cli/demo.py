"""`specbranch demo`: the same text twice, the second time sooner, and a picture of why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from specbranch.cli.comparison import beside, open_engine, warm_up, with_baseline
from specbranch.cli.generate import stream_to
from specbranch.cli.loading import open_session
from specbranch.cli.options import LaneOptions, ModelOptions, PolicyOptions
from specbranch.cli.report import comparison_table, machine_line, summary_line
from specbranch.cli.runs import Run
from specbranch.cli.session import Session
from specbranch.cli.summary import summarise
from specbranch.sampling import SamplingParams
from specbranch.timeline import draw_lanes, save_timeline, steady_window

WINDOW_S = 1.0
FRAME_WIDTH = 4 + 8  # the panel's border and padding, the lanes' names


def show_demo(
    models: ModelOptions,
    lanes: LaneOptions,
    method: str,
    prompt: str,
    max_new_tokens: int,
    folder: Path,
) -> None:
    """Run the command; writes timeline.png and trace.json to the folder."""
    console = Console()
    params = SamplingParams(max_new_tokens=max_new_tokens)
    methods = with_baseline([method])
    session = open_session(methods, models, lanes, PolicyOptions())
    console.print(prompt, style="italic", markup=False, highlight=False)
    runs = _stream_each(console, session, methods, prompt, params)
    console.print(Panel(_picture(console, runs[-1]), title=_title(runs[-1]), expand=False))
    console.print(comparison_table(summarise(runs)))
    console.print(machine_line(runs[0].env), style="dim", highlight=False)
    _save(runs[-1], folder)
    console.print(f"The whole request: {folder}/timeline.png; for Perfetto: {folder}/trace.json")
    console.print(_verdict(runs[-1]), style="bold")


def _stream_each(
    console: Console,
    session: Session,
    methods: Sequence[str],
    prompt: str,
    params: SamplingParams,
) -> list[Run]:
    max_len = len(session.pair.encode(prompt)) + params.max_new_tokens
    runs: list[Run] = []
    for method in methods:
        console.rule(f"[bold]{method}")
        with open_engine(session, method, max_len) as engine:
            warm_up(engine, prompt, params)
            run = stream_to(console, session, engine, prompt, params)
        console.print(summary_line(run), style="dim", highlight=False)
        runs.append(beside(session, run, runs[0] if runs else run, params))
    return runs


def _picture(console: Console, run: Run) -> Text:
    trace, committed = run.generation.trace, run.generation.stats.accepted_lengths
    window = steady_window(trace, WINDOW_S)
    return draw_lanes(trace, committed, window, console.width - FRAME_WIDTH)


def _title(run: Run) -> str:
    return f"{run.method}: one second of both lanes"


def _save(run: Run, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    trace, committed = run.generation.trace, run.generation.stats.accepted_lengths
    save_timeline(trace, committed, folder / "timeline.png", steady_window(trace, 3 * WINDOW_S))
    trace.save(folder / "trace.json")


def _verdict(run: Run) -> str:
    identical = "yes" if run.identical else "no"
    return f"{run.method}: {run.speedup:.2f}x as fast as plain decoding, identical: {identical}"
