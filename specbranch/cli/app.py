"""The commands. Each loads what it needs when it is called, so that --help answers at once."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from specbranch import __version__
from specbranch.cli.advise import commands as advising
from specbranch.cli.calibrate import commands as calibrating
from specbranch.cli.chat import commands as chatting
from specbranch.cli.distill import commands as distilling
from specbranch.cli.generate import DEFAULT_PROMPT, Json, Method, read_prompt
from specbranch.cli.generate import commands as generating
from specbranch.cli.groups import with_option_groups
from specbranch.cli.hrad import hrad
from specbranch.cli.options import LaneOptions, ModelOptions, PolicyOptions, SamplingOptions
from specbranch.cli.serve import commands as serving
from specbranch.cli.standard import drop_unwritten, never_fail_to_encode
from specbranch.files import require_writable
from specbranch.policies import POLICIES
from specbranch.prompts import EXAMPLE_PROMPTS, read_prompts

ALL_METHODS = ",".join(POLICIES)


class Commands(TyperGroup):
    """Turns what a user can put right into one red line and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        never_fail_to_encode(sys.stdout)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except Exception as error:
            drop_unwritten(sys.stdout)
            if not isinstance(error, _expected_errors()):
                raise
            line = " ".join(str(error).split())
            Console(stderr=True, soft_wrap=True).print(
                f"error: {line}", style="bold red", markup=False, highlight=False
            )
            raise typer.Exit(2) from error


def _expected_errors() -> tuple[type[Exception], ...]:
    from specbranch.lanes import LaneError

    return ValueError, LaneError, OSError, ImportError


app = typer.Typer(
    cls=Commands,
    name="specbranch",
    help="Branch-parallel speculative decoding: the target's own text, sooner.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(generating)
app.add_typer(chatting)
app.add_typer(advising)
app.add_typer(hrad)
app.add_typer(distilling)
app.add_typer(calibrating)
app.add_typer(serving)


def print_version(wanted: bool) -> None:
    """Say the version, and no more."""
    if wanted:
        Console().print(f"specbranch {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=print_version, is_eager=True, help="Say the version."),
    ] = False,
) -> None:
    """What stands before a command."""


@app.command()
@with_option_groups
def compare(
    models: ModelOptions,
    lanes: LaneOptions,
    sampling: SamplingOptions,
    policies: PolicyOptions,
    methods: Annotated[
        str, typer.Option(help="Names separated by commas, module:Class among them.")
    ] = ALL_METHODS,
    prompts: Annotated[
        Path | None, typer.Option(help="JSON lines with `prompt` or `turns`.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Prompts to read, at most.")] = 8,
    json: Json = None,
) -> None:
    """Run several methods on the same prompts, beside plain decoding."""
    from specbranch.cli.compared import tell
    from specbranch.cli.loading import open_session
    from specbranch.cli.progress import run_bar
    from specbranch.comparison import baseline
    from specbranch.comparison.methods import parse_methods
    from specbranch.comparison.runs import Run

    require_writable("--json", json)
    params, names = sampling.params(), baseline.with_baseline(parse_methods(methods))
    texts: Sequence[str] = EXAMPLE_PROMPTS[:limit]
    if prompts is not None:
        texts = [record.prompt for record in read_prompts(prompts, limit)]
    session = open_session(names, models, lanes, policies)
    runs: list[Run] = []
    try:
        with run_bar() as bar:
            found = baseline.compare(session, names, texts, params)
            for run in bar.track(found, len(names) * len(texts), description="runs"):
                runs.append(run)
    finally:  # what is finished is told, whatever ended it
        tell(runs, json)


@app.command()
@with_option_groups
def demo(
    models: ModelOptions,
    lanes: LaneOptions,
    method: Method = "specbranch",
    prompt: Annotated[
        str, typer.Option("--prompt", "-p", help="Text, the name of a file, or -.")
    ] = DEFAULT_PROMPT,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", "-n", min=1, help="Tokens to generate.")
    ] = 128,
    out: Annotated[Path, typer.Option(help="Folder for timeline.png and trace.json.")] = Path(
        "build/demo"
    ),
) -> None:
    """Plain decoding, then the same text sooner, with the overlap drawn on screen; then four texts
    at once."""
    from specbranch.cli.demo import picture, save_pictures, several, stream_each, verdict
    from specbranch.cli.loading import open_session
    from specbranch.comparison import report
    from specbranch.comparison.baseline import with_baseline
    from specbranch.comparison.summary import summarise
    from specbranch.sampling import SamplingParams

    require_writable("--out", out / "timeline.png")
    console, text, methods = Console(), read_prompt(prompt), with_baseline([method])
    session = open_session(methods, models, lanes, PolicyOptions())
    console.print(text, style="italic", markup=False, highlight=False)
    params = SamplingParams(max_new_tokens=max_new_tokens)
    runs = stream_each(console, session, methods, text, params)
    sooner = runs[-1]
    console.print(picture(sooner, console.width))
    console.print(report.terminal_table(report.comparison_rows(summarise(runs))))
    for line in (report.machine_line(runs[0].env), report.LEGEND):
        console.print(line, style="dim", markup=False, highlight=False)
    save_pictures(sooner, out)
    console.print(
        f"A longer stretch: {out}/timeline.png; for Perfetto: {out}/trace.json", markup=False
    )
    console.print(verdict(sooner), style="bold green" if sooner.identical else "bold red")
    short = SamplingParams(max_new_tokens=min(48, max_new_tokens))
    console.print(several(session, EXAMPLE_PROMPTS, short), style="bold")


@app.command()
def info() -> None:
    """Say what this installation is made of."""
    from specbranch import build_info

    table = Table(show_header=False, box=None)
    for name, value in build_info().items():
        table.add_row(f"[bold]{name}[/bold]", escape(str(value)))
    Console().print(table)
