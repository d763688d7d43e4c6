"""Text on screen as it is committed, and the files about a run."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate, chain, pairwise
from pathlib import Path

from rich.console import Console
from rich.text import Text
from transformers import PreTrainedTokenizerBase

from specbranch.cli.progress import reading_bar
from specbranch.comparison.report import logprob_lines, summary_line
from specbranch.comparison.runs import Run, finished_run
from specbranch.comparison.session import Session
from specbranch.engine import Engine
from specbranch.files import require_writable, write_whole
from specbranch.generation import Generation, GenerationStream
from specbranch.models.runner import PREFILL_CHUNK
from specbranch.page import page
from specbranch.pictures import format_of
from specbranch.request import Chunk
from specbranch.sampling import SamplingParams
from specbranch.stats import Stats
from specbranch.stopping import Transcript
from specbranch.timeline import DRAWN_FORWARDS, save_timeline, steady_window


@dataclass(frozen=True, slots=True)
class Outputs:
    """Files to write about a run, where a path is given. Raises ValueError for a picture of no
    known format, and for what cannot be written."""

    json: Path | None
    trace: Path | None
    timeline: Path | None
    html: Path | None

    def __post_init__(self) -> None:
        if self.timeline:
            format_of(self.timeline)
        for field in fields(self):
            require_writable(f"--{field.name}", getattr(self, field.name))

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) for field in fields(self))

    def write(self, runs: Sequence[Run], tokenizer: PreTrainedTokenizerBase) -> None:
        """Write all: the figures of every run, the pictures of the first."""
        if not self:
            return
        records, generation = [run.as_json() for run in runs], runs[0].generation
        pieces = pieces_of(tokenizer, generation.token_ids)
        if self.json:
            record = records[0] if len(records) == 1 else {"runs": records}
            write_whole(self.json, json.dumps(record, indent=1))
        if self.trace:
            generation.trace.save(self.trace, verdicts(generation.stats, pieces))
        if self.timeline:
            window = steady_window(generation.trace, DRAWN_FORWARDS)
            save_timeline(generation.trace, generation.stats, self.timeline, window)
        if self.html:
            spans = [span._asdict() for span in generation.trace.spans]
            write_whole(self.html, page({**records[0], "pieces": pieces, "spans": spans}))


def pieces_of(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> list[str]:
    """The text of each token; one that completes no character has none."""
    transcript = Transcript(tokenizer, (), (), len(token_ids))
    return [transcript.commit([token])[1] for token in token_ids]


def verdicts(stats: Stats, pieces: Sequence[str]) -> list[dict[str, object]]:
    """What is told beside each round's verdict in a trace."""
    ends = list(accumulate(stats.accepted_lengths))
    return [
        {
            "round": number,
            "committed": end - start,
            "hit": "won" in stats.origins[start:end],
            "text": "".join(pieces[start:end]),
        }
        for number, (start, end) in enumerate(pairwise([0, *ends]))
    ]


@dataclass(slots=True)
class Streamed:
    """What was shown. interrupted: whether Ctrl-C ended it, with what was there by then. refusal:
    what kept the console from showing more: an error, or rich's exit where nobody reads on."""

    runs: list[Run]
    interrupted: bool = False
    refusal: OSError | SystemExit | None = None


def stream_all(
    console: Console,
    session: Session,
    engine: Engine,
    prompts: Sequence[str],
    params: SamplingParams,
    wanted: bool = False,
) -> Streamed:
    """Generate from all prompts together; the first text is shown as it is committed, then the
    others, each below its prompt where there are several.

    wanted: whether a console that takes no more ends nothing, the runs being for files, too.
    """
    start = time.perf_counter()
    streams = [engine.stream(prompt, params) for prompt in prompts]
    shown = Streamed([])
    for prompt, stream in zip(prompts, streams, strict=True):
        if len(prompts) > 1:
            console.rule(Text(prompt), style="dim", align="left")
        try:
            show(console, engine, stream)
        except (OSError, SystemExit) as refusal:
            if not wanted:
                raise
            shown.refusal = refusal
            for _ in stream:
                pass
        except KeyboardInterrupt:
            shown.interrupted = True
            for each in streams:
                each.close()
            console.out()
        generation = ended(stream, shown.interrupted)
        host_s = time.perf_counter() - start
        shown.runs.append(finished_run(session, engine, prompt, params, generation, host_s))
        if shown.interrupted:
            break
    return shown


def show(console: Console, engine: Engine, stream: GenerationStream) -> None:
    """The text as it is committed, then a line's end; a long prompt has a bar meanwhile."""
    for chunk in chain(_first_chunks(engine, stream), stream):
        console.out(chunk.text, end="", highlight=False)
    console.out()


def ended(stream: GenerationStream, interrupted: bool) -> Generation:
    """What a stream that has ended came to; one that Ctrl-C cut short was cancelled."""
    assert stream.generation is not None
    if interrupted and stream.generation.error:
        return replace(stream.generation, finish_reason="cancelled", error=None)
    return stream.generation


def print_logprobs(generation: Generation, tokenizer: PreTrainedTokenizerBase) -> None:
    """A line for each token on standard error, where they are told."""
    notes = Console(stderr=True)
    lines = logprob_lines(generation.logprobs, lambda token: str(tokenizer.decode([token])))
    for line in lines:
        notes.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)


def print_summaries(runs: Sequence[Run]) -> None:
    """A dim line about each on standard error."""
    for run in runs:
        Console(stderr=True).print(
            summary_line(run), style="dim", markup=False, highlight=False, soft_wrap=True
        )


def _first_chunks(engine: Engine, stream: GenerationStream) -> list[Chunk]:
    """Those of the round that ends the reading of a prompt, where that takes several."""
    prompt_tokens = len(stream.prompt_token_ids)
    if prompt_tokens <= PREFILL_CHUNK:
        return []
    with reading_bar() as bar:
        task = bar.add_task("reading the prompt", total=prompt_tokens)
        while not (chunks := stream.ready()) and engine.step():
            bar.update(task, advance=PREFILL_CHUNK, refresh=True)
    return chunks
