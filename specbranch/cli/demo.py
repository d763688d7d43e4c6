"""What `specbranch demo` shows: the same text twice, the second time sooner, and why; then four at
once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel

from specbranch.cli.streaming import print_summaries, stream_all
from specbranch.comparison.baseline import beside, open_engine, warm_up
from specbranch.comparison.runs import Run
from specbranch.comparison.session import Session
from specbranch.sampling import SamplingParams
from specbranch.timeline import DRAWN_FORWARDS, draw_lanes, save_timeline, steady_window

SHOWN_FORWARDS = 10  # target forwards on screen
FRAME_WIDTH = 4 + 8  # the panel's border and padding, the lanes' names


def stream_each(
    console: Console,
    session: Session,
    methods: Sequence[str],
    prompt: str,
    params: SamplingParams,
) -> list[Run]:
    """A run of each method, the baseline's first, streamed below its name."""
    max_len = len(session.pair.encode(prompt)) + params.max_new_tokens
    runs: list[Run] = []
    for method in methods:
        console.rule(f"[bold]{escape(method)}")
        with open_engine(session, method, max_len) as engine:
            warm_up(engine, prompt, params)
            shown = stream_all(console, session, engine, [prompt], params)
        if shown.interrupted:
            raise KeyboardInterrupt
        (run,) = shown.runs
        print_summaries(shown.runs)
        runs.append(beside(session, run, runs[0] if runs else run, params))
    return runs


def picture(run: Run, width: int) -> Panel:
    """The lanes in the middle of a run, on a terminal of that width."""
    trace, stats = run.generation.trace, run.generation.stats
    start, end = steady_window(trace, SHOWN_FORWARDS)
    lanes = draw_lanes(trace, stats, (start, end), width - FRAME_WIDTH)
    return Panel(
        lanes, title=f"{escape(run.method)}: {end - start:.2f} s of both lanes", expand=False
    )


def save_pictures(run: Run, folder: Path) -> None:
    """Write timeline.png and trace.json."""
    folder.mkdir(parents=True, exist_ok=True)
    trace, stats = run.generation.trace, run.generation.stats
    save_timeline(trace, stats, folder / "timeline.png", steady_window(trace, DRAWN_FORWARDS))
    trace.save(folder / "trace.json")


def verdict(run: Run) -> str:
    """How much sooner the text came, and whether it is the same."""
    identical = "yes" if run.identical else "no"
    return f"{run.method}: {run.speedup:.2f}x as fast as plain decoding, identical: {identical}"


def several(session: Session, prompts: Sequence[str], params: SamplingParams) -> str:
    """How fast `auto` writes several texts one after the other, and together."""
    max_len = max(len(session.pair.encode(prompt)) for prompt in prompts) + params.max_new_tokens
    with session.engine("auto", max_len, len(prompts)) as engine:
        warm_up(engine, prompts[0], params)
        alone = [engine.generate(prompt, params) for prompt in prompts]
        engine.generate([*prompts], replace(params, max_new_tokens=1))
        together = engine.generate([*prompts], params)
    tokens = sum(each.stats.tokens for each in together)
    by_turns = tokens / sum(each.stats.wall_s for each in alone)
    at_once = tokens / max(each.stats.wall_s for each in together)
    unit = f"tok/{session.costs.unit if session.costs else 's'}"
    same = [each.token_ids for each in alone] == [each.token_ids for each in together]
    return (
        f"auto, {len(prompts)} requests: {by_turns:.3g} {unit} one after the other, "
        f"{at_once:.3g} {unit} together, identical: {'yes' if same else 'no'}"
    )
