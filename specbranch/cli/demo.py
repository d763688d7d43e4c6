"""`specbranch demo`: the same text twice, the second time sooner, and a picture of why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.panel import Panel

from specbranch.cli.comparison import beside, open_engine, warm_up, with_baseline
from specbranch.cli.generate import stream_to
from specbranch.cli.loading import open_session
from specbranch.cli.options import LaneOptions, ModelOptions, PolicyOptions
from specbranch.cli.report import LEGEND, comparison_table, machine_line, summary_line
from specbranch.cli.runs import Run
from specbranch.cli.session import Session
from specbranch.cli.summary import summarise
from specbranch.sampling import SamplingParams
from specbranch.timeline import draw_lanes, save_timeline, steady_window

SHOWN_FORWARDS, DRAWN_FORWARDS = 10, 30  # target forwards on screen, and in the picture
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
    console.print(_picture(runs[-1], console.width - FRAME_WIDTH))
    console.print(comparison_table(summarise(runs)))
    for line in (machine_line(runs[0].env), LEGEND):
        console.print(line, style="dim", highlight=False)
    _save(runs[-1], folder)
    console.print(f"A longer stretch: {folder}/timeline.png; for Perfetto: {folder}/trace.json")
    console.print(_verdict(runs[-1]), style="bold green" if runs[-1].identical else "bold red")


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
        console.print(summary_line(run), style="dim", highlight=False, soft_wrap=True)
        runs.append(beside(session, run, runs[0] if runs else run, params))
    return runs


def _picture(run: Run, width: int) -> Panel:
    trace, committed = run.generation.trace, run.generation.stats.accepted_lengths
    start, end = steady_window(trace, SHOWN_FORWARDS)
    lanes = draw_lanes(trace, committed, (start, end), width)
    return Panel(lanes, title=f"{run.method}: {end - start:.2f} s of both lanes", expand=False)


def _save(run: Run, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    trace, committed = run.generation.trace, run.generation.stats.accepted_lengths
    save_timeline(trace, committed, folder / "timeline.png", steady_window(trace, DRAWN_FORWARDS))
    trace.save(folder / "trace.json")


def _verdict(run: Run) -> str:
    identical = "yes" if run.identical else "no"
    return f"{run.method}: {run.speedup:.2f}x as fast as plain decoding, identical: {identical}"
