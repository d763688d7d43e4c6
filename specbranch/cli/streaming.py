"""Text on screen as it is committed, and the files about a run."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from specbranch.comparison.runs import Run, finished_run
from specbranch.comparison.session import Session
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
