"""`specbranch hrad collect`: a progress bar over prompts, a file for each."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from specbranch.cli.loading import open_session
from specbranch.cli.options import LaneOptions, ModelOptions, PolicyOptions, SamplingOptions
from specbranch.hrad.collect import Collector
from specbranch.hrad.collection import Collection
from specbranch.prompts import read_prompts


def collect_examples(
    models: ModelOptions,
    lanes: LaneOptions,
    sampling: SamplingOptions,
    prompts: Path,
    out: Path,
    limit: int | None,
    gamma: int,
    method: str,
) -> None:
    """Run the command."""
    params = sampling.params()
    records = {record.prompt: record for record in read_prompts(prompts, limit)}
    session = open_session([method], models, lanes, PolicyOptions())
    max_len = params.max_new_tokens + max(len(session.pair.encode(text)) for text in records)
    columns = (TextColumn("collecting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True))
    with session.engine(method, max_len) as engine, bar:
        collector = Collector(engine, params, gamma)
        collection = Collection.resume(out, collector.settings)
        for record in bar.track(records.values()):
            if record.prompt not in collection:
                collection.add(record.prompt, collector.examples(record))
    Console().print(f"{out}: examples of {len(records)} prompts", highlight=False)
