"""The commands under `specbranch hrad`: data for the classifier, and its training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from specbranch.cli.groups import with_option_groups
from specbranch.cli.options import LaneOptions, ModelOptions, PolicyOptions, SamplingOptions
from specbranch.cli.progress import progress_bar
from specbranch.files import require_writable
from specbranch.prompts import read_prompts

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
    from specbranch.cli.loading import open_session
    from specbranch.comparison.baseline import require_fitting
    from specbranch.training.hrad.collect import Collector
    from specbranch.training.hrad.collection import Collection

    require_writable("--out", out / "settings.json")
    params = sampling.params()
    records = {record.prompt: record for record in read_prompts(prompts, limit)}
    session = open_session([method], models, lanes, PolicyOptions())
    max_len = params.max_new_tokens + max(len(session.pair.encode(text)) for text in records)
    with session.engine(method, max_len) as engine, progress_bar() as bar:
        require_fitting(engine, [*records], params)
        collector = Collector(engine, params, gamma)
        collection = Collection.resume(out, collector.settings)
        for record in bar.track(records.values(), description="collecting"):
            if record.prompt not in collection:
                collection.add(record.prompt, collector.examples(record))
    Console().print(f"{out}: examples of {len(records)} prompts", markup=False, highlight=False)


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
    from specbranch.cli.hrad_train import fit_with_progress, scores_table, sides_line
    from specbranch.hrad.model import save_classifier
    from specbranch.training.hrad.collection import Collection
    from specbranch.training.hrad.confusion import save_confusion
    from specbranch.training.hrad.scores import score_all
    from specbranch.training.hrad.train import TrainingOptions, config_for, pooled, split_by_prompt

    for name, path in (("out", out), ("--picture", picture or out.with_suffix(".png"))):
        require_writable(name, path)
    collection = Collection(data)
    config = config_for(collection.settings, gamma)
    split = split_by_prompt(collection.load(), seed)
    sides = [pooled(side, config.gamma) for side in split]
    training, validation, held_out = sides
    options = TrainingOptions(epochs, batch_size, learning_rate, seed=seed)
    classifier = fit_with_progress(training, validation, config, options)
    by_name = score_all(classifier, training, held_out)
    save_classifier(out, classifier, config)
    save_confusion(by_name, picture or out.with_suffix(".png"))
    console = Console()
    console.print(scores_table(by_name))
    line = f"{sides_line(split, sides)}; gamma {config.gamma}"
    console.print(line, style="dim", highlight=False)
