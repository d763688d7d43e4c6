"""`specbranch calibrate`: measure what a pair's forwards cost, for the virtual clock."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table

from specbranch.cli.groups import with_option_groups
from specbranch.cli.options import ModelOptions
from specbranch.files import require_writable, write_whole

commands = typer.Typer()


@commands.command()
@with_option_groups
def calibrate(
    models: ModelOptions,
    out: Annotated[Path, typer.Option(help="JSON file to write, for --clock virtual:FILE.")],
    context: Annotated[int, typer.Option(min=1, help="Committed tokens before the rows.")] = 256,
    repeats: Annotated[int, typer.Option(min=1, help="Forwards that a median is of.")] = 15,
) -> None:
    """Measure what draft steps and target forwards cost on this machine, by rows."""
    from specbranch.cli.loading import load
    from specbranch.engine import default_lanes
    from specbranch.info import environment
    from specbranch.training.pair_timer import PairTimer

    require_writable("--out", out)
    console = Console(stderr=True)
    pair = load(models)
    with default_lanes(pair, overlap=True) as lanes:
        timer = PairTimer(pair, lanes, context=context, repeats=repeats)
        bar = track(timer.measurements(), "measuring", len(timer), console=console)
        measurements = list(bar)
        latencies = timer.latencies()
    costs = costs_json(measurements, latencies)
    env = environment(pair.device) | {
        "target": models.target,
        "draft": pair.draft_name,
        "dtype": str(pair.dtype).removeprefix("torch."),
        "weights": pair.weights,
        "context": context,
        "repeats": repeats,
    }
    write_whole(out, json.dumps({**costs, "env": env}, indent=1) + "\n")
    Console().print(costs_table(costs))
    Console().print(summary(costs), highlight=False)


def costs_json(measurements: Sequence[Any], latencies: tuple[float, float]) -> dict[str, Any]:
    """What the file says, as CostModel.parse reads it, and the contended seconds beside."""
    from specbranch.training.pair_timer import contention

    def by_rows(lane: str, contended: bool) -> dict[str, float]:
        return {
            str(m.rows): m.seconds
            for m in measurements
            if m.lane == lane and m.contended is contended
        }

    lanes = ("draft", "target")
    launch, sync = latencies
    return {
        **{lane: by_rows(lane, False) for lane in lanes},
        "contended": {lane: by_rows(lane, True) for lane in lanes},
        "contention": {lane: contention(measurements, lane) for lane in lanes},
        "launch": launch,
        "sync": sync,
    }


def costs_table(costs: dict[str, Any]) -> Table:
    """Milliseconds by rows: the draft alone and contended, then the target."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, header_style="bold")
    for column in ("rows", "draft", "contended", "target", "contended", "target / draft"):
        table.add_column(column, justify="right")
    for rows, draft in costs["draft"].items():
        target = costs["target"][rows]
        cells = (
            draft,
            costs["contended"]["draft"][rows],
            target,
            costs["contended"]["target"][rows],
        )
        table.add_row(rows, *(f"{1e3 * cell:.2f} ms" for cell in cells), f"{target / draft:.1f}")
    return table


def summary(costs: dict[str, Any]) -> str:
    """c, and what the lanes do to each other."""
    c = costs["target"]["1"] / costs["draft"]["1"]
    slower = ", ".join(f"{lane} {factor:.2f}x" for lane, factor in costs["contention"].items())
    return (
        f"c = {c:.1f} (a target forward over a draft step, one row each); beside a busy other "
        f"lane: {slower}; launch {1e6 * costs['launch']:.0f} us, sync {1e6 * costs['sync']:.0f} us"
    )
