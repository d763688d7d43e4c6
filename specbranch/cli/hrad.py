"""The commands under `specbranch hrad`: data for the classifier, and its training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from specbranch.cli.groups import with_option_groups
from specbranch.cli.options import LaneOptions, ModelOptions, SamplingOptions

hrad = typer.Typer(
    name="hrad",
    help="H-RAD: a classifier of how much of the draft's next block the target will accept.",
    no_args_is_help=True,
)


@hrad.command()
@with_option_groups
def collect(
    models: ModelOptions,
    lanes: LaneOptions,
    sampling: SamplingOptions,
    prompts: Annotated[Path, typer.Option(help="JSON lines with `prompt` or `turns`.")],
    out: Annotated[Path, typer.Option(help="Folder of the examples; goes on where it stopped.")],
    limit: Annotated[int | None, typer.Option(min=1, help="Prompts to read, at most.")] = None,
    gamma: Annotated[int, typer.Option(min=1, help="Draft tokens of a block.")] = 8,
    method: Annotated[str, typer.Option(help="How the text is decoded; it is the same.")] = "sps",
) -> None:
    """Run the pair on prompts and store, at every token, what H-RAD would see and what came."""
    from specbranch.cli.hrad_collect import collect_examples

    collect_examples(models, lanes, sampling, prompts, out, limit, gamma, method)


@hrad.command()
def train(
    data: Annotated[Path, typer.Argument(help="Folder of `hrad collect`.")],
    out: Annotated[Path, typer.Option(help="File of the classifier (.safetensors).")],
    gamma: Annotated[
        int | None, typer.Option(min=1, help="Draft tokens of a block; by default all collected.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the examples, at most.")] = 20,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples of a step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Of AdamW.")] = 3e-4,
    seed: Annotated[int, typer.Option(help="Of the split, the weights and the order.")] = 0,
    picture: Annotated[
        Path | None, typer.Option(help="Confusion matrices; by default beside the file.")
    ] = None,
) -> None:
    """Train the classifier, and score it on held-out prompts beside simpler rules."""
    from specbranch.cli.hrad_train import train_classifier
    from specbranch.hrad.train import TrainingOptions

    options = TrainingOptions(epochs, batch_size, learning_rate, seed=seed)
    train_classifier(data, out, gamma, options, picture or out.with_suffix(".png"))
