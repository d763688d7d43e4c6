"""`specbranch chat`: turns with a model, each streamed, with its figures below."""

from __future__ import annotations

from typing import Annotated

import typer

from specbranch.cli.generate import Method
from specbranch.cli.groups import with_option_groups
from specbranch.cli.options import (
    LaneOptions,
    ModelOptions,
    PolicyOptions,
    RuleOptions,
    SamplingOptions,
)

commands = typer.Typer()


@commands.command()
@with_option_groups
def chat(
    models: ModelOptions,
    lanes: LaneOptions,
    sampling: SamplingOptions,
    rules: RuleOptions,
    policies: PolicyOptions,
    method: Method = "specbranch",
    system: Annotated[str | None, typer.Option(help="What the model is told first.")] = None,
    max_len: Annotated[int, typer.Option(min=2, help="Tokens of all turns, at most.")] = 4096,
) -> None:
    """Talk with the model in turns. What was read of earlier turns is not read again."""
    from specbranch.cli.loading import open_session
    from specbranch.cli.turns import Chat

    params = sampling.params(**rules.given())
    session = open_session([method], models, lanes, policies)
    with session.engine(method, max_len) as engine:
        engine.warm_up()
        Chat(engine, params, system).run()
