"""`specbranch serve`: an engine behind OpenAI's HTTP interface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console

from specbranch.cli.groups import with_option_groups
from specbranch.cli.options import LaneOptions, ModelOptions, PolicyOptions, option
from specbranch.extras import needs

commands = typer.Typer()


def _limit(help_text: str) -> Any:
    return option("Limits", help_text, least=1)


@dataclass(frozen=True, slots=True)
class LimitOptions:
    """What the server takes on, and what it refuses."""

    max_requests: Annotated[int, _limit("Choices that run at a time.")] = 8
    max_waiting: Annotated[
        int, _limit("Choices that wait for those; more are refused with 429.")
    ] = 64
    max_len: Annotated[int, _limit("Tokens of prompt and output, at most.")] = 2048
    max_tokens: Annotated[
        int | None, _limit("Tokens of an output, at most; by default what fits.")
    ] = None
    max_n: Annotated[int, _limit("Choices of a request, at most.")] = 8
    max_body_bytes: Annotated[int, _limit("Of a request; over it 413.")] = 1 << 20
    max_stop_strings: Annotated[int, _limit("Stop strings, at most.")] = 16
    max_stop_chars: Annotated[int, _limit("Characters of each, at most.")] = 256

    def limits(self) -> Any:
        """The server's `Limits`."""
        from specbranch.serving.bodies import Limits

        in_flight = self.max_requests + self.max_waiting
        return Limits(
            body_bytes=self.max_body_bytes,
            in_flight=in_flight,
            n=min(self.max_n, in_flight),
            max_tokens=self.max_tokens,
            stop_strings=self.max_stop_strings,
            stop_chars=self.max_stop_chars,
        )


@commands.command()
@with_option_groups
def serve(
    models: ModelOptions,
    lanes: LaneOptions,
    policies: PolicyOptions,
    limits: LimitOptions,
    method: Annotated[str, typer.Option(help="As for generate.")] = "auto",
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at.")] = 8000,
    served_model_name: Annotated[
        str | None, typer.Option(help="What clients call the model; by default as --target.")
    ] = None,
    drain_seconds: Annotated[
        int, typer.Option(min=0, help="After SIGTERM, for those who are being served.")
    ] = 60,
) -> None:
    """Serve the model by OpenAI's HTTP interface, until SIGTERM or Ctrl-C."""
    with needs("serve", "serve"):
        import uvicorn

        from specbranch.serving.app import create_app
    from specbranch.cli.loading import open_session

    accepted = limits.limits()
    session = open_session([method], models, lanes, policies)
    name = served_model_name or models.target
    with session.engine(method, limits.max_len, limits.max_requests) as engine:
        engine.warm_up()
        app = create_app(engine, name, accepted)
        Console(stderr=True).print(
            f"{name} at http://{host}:{port}/v1", markup=False, highlight=False
        )
        uvicorn.run(app, host=host, port=port, timeout_graceful_shutdown=drain_seconds)
