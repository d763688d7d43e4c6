"""`specbranch generate`: one prompt, its text as it is committed, one line about it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from specbranch.cli.loading import open_session
from specbranch.cli.options import LaneOptions, ModelOptions, PolicyOptions, SamplingOptions
from specbranch.cli.report import summary_line
from specbranch.cli.runs import Run, finished_run
from specbranch.cli.session import Session
from specbranch.engine import Engine
from specbranch.files import write_whole
from specbranch.pictures import format_of
from specbranch.sampling import SamplingParams
from specbranch.timeline import save_timeline


@dataclass(frozen=True, slots=True)
class Outputs:
    """Files to write about a run, where a path is given. Raises ValueError for a picture of no
    known format."""

    json: Path | None
    trace: Path | None
    timeline: Path | None

    def __post_init__(self) -> None:
        if self.timeline:
            format_of(self.timeline)

    def write(self, run: Run) -> None:
        generation = run.generation
        if self.json:
            write_whole(self.json, json.dumps(run.as_json(), indent=1))
        if self.trace:
            generation.trace.save(self.trace)
        if self.timeline:
            save_timeline(generation.trace, generation.stats.accepted_lengths, self.timeline)


def generate_once(
    models: ModelOptions,
    lanes: LaneOptions,
    sampling: SamplingOptions,
    policies: PolicyOptions,
    prompt: str,
    method: str,
    outputs: Outputs,
) -> None:
    """Run the command. The text goes to standard output, all else to standard error."""
    params = sampling.params()
    session = open_session([method], models, lanes, policies)
    max_len = len(session.pair.encode(prompt)) + params.max_new_tokens
    with session.engine(method, max_len) as engine:
        run = stream_to(Console(), session, engine, prompt, params)
    Console(stderr=True).print(summary_line(run), style="dim", highlight=False, soft_wrap=True)
    outputs.write(run)


def stream_to(
    console: Console, session: Session, engine: Engine, prompt: str, params: SamplingParams
) -> Run:
    """Generate, showing the text as it is committed."""
    start = time.perf_counter()
    stream = engine.stream(prompt, params)
    for chunk in stream:
        console.out(chunk.text, end="", highlight=False)
    host_s = time.perf_counter() - start
    console.out()
    assert stream.generation is not None
    return finished_run(session, engine, prompt, stream.generation, host_s)
