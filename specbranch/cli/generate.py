"""`specbranch generate`: one prompt or several, on screen as rounds commit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from specbranch.cli.groups import with_option_groups
from specbranch.cli.options import (
    LaneOptions,
    ModelOptions,
    PolicyOptions,
    RuleOptions,
    SamplingOptions,
)
from specbranch.cli.standard import read_standard_input
from specbranch.policies import POLICIES
from specbranch.prompts import EXAMPLE_PROMPTS
from specbranch.texts import read_text_file, valid_unicode

DEFAULT_PROMPT = EXAMPLE_PROMPTS[0]

Json = Annotated[Path | None, typer.Option("--json", help="Write the figures here.")]
Method = Annotated[str, typer.Option(help=f"One of {','.join(POLICIES)}, or module:Class.")]

commands = typer.Typer()


@commands.command()
@with_option_groups
def generate(
    models: ModelOptions,
    lanes: LaneOptions,
    sampling: SamplingOptions,
    rules: RuleOptions,
    policies: PolicyOptions,
    prompts: Annotated[
        list[str] | None,
        typer.Argument(help="Texts, names of files, or - for standard input; all at once."),
    ] = None,
    prompt: Annotated[
        list[str] | None, typer.Option("--prompt", "-p", help="One more; may be repeated.")
    ] = None,
    method: Method = "specbranch",
    json: Json = None,
    trace: Annotated[
        Path | None, typer.Option(help="Write the lanes' spans here, for Perfetto.")
    ] = None,
    timeline: Annotated[Path | None, typer.Option(help="Draw the lanes here (.png, .svg).")] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page here: text by how it came, and lanes.")
    ] = None,
) -> None:
    """Generate from prompts; the text streams to standard output."""
    from specbranch.cli.loading import open_session
    from specbranch.cli.streaming import Outputs, print_logprobs, print_summaries, stream_all
    from specbranch.comparison.baseline import require_fitting

    outputs = Outputs(json, trace, timeline, html)
    texts = [read_prompt(each) for each in [*(prompts or ()), *(prompt or ())] or [DEFAULT_PROMPT]]
    params = sampling.params(**rules.given())
    session = open_session([method], models, lanes, policies)
    longest = max(len(session.pair.encode(text)) for text in texts)
    with session.engine(method, longest + params.max_new_tokens, len(texts)) as engine:
        require_fitting(engine, texts, params)
        engine.warm_up()
        shown = stream_all(Console(), session, engine, texts, params, bool(outputs))
    try:
        for run in shown.runs:
            print_logprobs(run.generation, session.pair.tokenizer)
        print_summaries(shown.runs)
    finally:
        outputs.write(shown.runs, session.pair.tokenizer)
    if shown.interrupted:
        raise KeyboardInterrupt
    if shown.refusal:
        raise shown.refusal


def read_prompt(prompt: str) -> str:
    """The prompt behind the option: standard input for -, a file's text if it names one.

    Raises ValueError for a file that is no text.
    """
    if prompt == "-":
        return read_standard_input()
    if os.path.exists(prompt) and not os.path.isdir(prompt):
        return read_text_file(prompt)
    return valid_unicode(prompt)
