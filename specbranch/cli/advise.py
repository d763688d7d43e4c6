"""`specbranch advise`: which method and draft to take for a target on this machine, or none."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated

import typer
from rich.console import Console

from specbranch.cli.groups import with_option_groups
from specbranch.cli.options import ModelOptions
from specbranch.prompts import EXAMPLE_PROMPTS

commands = typer.Typer()


@commands.command()
@with_option_groups
def advise(
    models: ModelOptions,
    drafts: Annotated[
        str | None, typer.Option(help="Drafts to choose from, by commas; by default --draft alone.")
    ] = None,
    prompts: Annotated[
        list[str] | None,
        typer.Option("--prompt", "-p", help="Texts such as you have; two examples without."),
    ] = None,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", "-n", min=8, help="Tokens of each text.")
    ] = 32,
) -> None:
    """Measure a pair for about a minute, and say which method and draft to take, or none."""
    from specbranch.cli.advice import Trial, findings_table, measure, verdict
    from specbranch.cli.loading import load
    from specbranch.cli.progress import run_bar

    trial = Trial(list(prompts or EXAMPLE_PROMPTS[:2]), max_new_tokens)
    findings = []
    for draft in drafts.split(",") if drafts else [models.draft]:
        pair = load(replace(models, draft=draft))
        with run_bar() as bar:
            task = bar.add_task(f"draft {pair.draft_name}", total=trial.steps)
            done = partial(bar.update, task, advance=1, refresh=True)
            findings.append(measure(pair, trial, done))
    console = Console()
    console.print(findings_table(findings))
    for line in verdict(findings):
        console.print(line, style="bold", highlight=False, soft_wrap=True)
