"""Decoding speed of a real pair, against plain decoding and peers: `python -m bench.decode`.

Four kinds of prompts, as Spec-Bench has them: code (HumanEval), math (GSM8K), chat (MT-bench, both
turns) and news to summarise. Every method and every peer answers each of them, taking turns. All
runs go into OUT/runs.jsonl, and one that is there is not made again, so that a measurement can be
interrupted, go on, and grow; tables and pictures are made of what the file holds. `make prompts`
fetches the prompts.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.commit import commit
from bench.decoding.answer import method_and_source, of_engine, open_engines
from bench.decoding.cases import CATEGORIES, EXAMPLES, SETS, Question, by_turns, read_questions
from bench.decoding.figures import tabulate
from bench.decoding.peers import PEERS, Peers, load_peers
from bench.decoding.pictures import save_lanes, speedups
from bench.decoding.records import Key, RunFile
from bench.decoding.report import Report, as_json, markdown, print_report
from bench.decoding.run import Field, missing_turns, run_turn, warm_up
from bench.options import add_models, open_session, positive
from specbranch.comparison.baseline import BASELINE, with_baseline
from specbranch.comparison.methods import parse_methods
from specbranch.comparison.session import Session
from specbranch.engine import Engine
from specbranch.files import write_whole
from specbranch.pictures import save_picture
from specbranch.policies import POLICIES
from specbranch.sampling import SamplingParams

RETOKENISED = 32  # by how many tokens an answer may grow when it is encoded again
SMOKE_METHODS, SMOKE_TOKENS = "ar,specbranch,bestfirst", 4
WIDTH = 110  # of the tables, at least


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    if options.smoke:
        options.repeats, options.max_new_tokens = 1, SMOKE_TOKENS
    asked = options.prompts, options.categories
    questions = EXAMPLES if options.smoke else read_questions(*asked)
    options.out.mkdir(parents=True, exist_ok=True)
    chosen = options.methods or (SMOKE_METHODS if options.smoke else ",".join(POLICIES))
    methods = with_baseline(parse_methods(chosen))
    session = open_session(options, [method_and_source(each)[0] for each in methods])
    params = SamplingParams(
        max_new_tokens=options.max_new_tokens, temperature=options.temperature, seed=options.seed
    )
    report = measure(session, methods, list(by_turns(questions)), params, options)
    given = sys.argv[1:] if arguments is None else arguments
    _write(report, options.out, shlex.join(["python", "-m", "bench.decode", *given]))
    print_report(report, Console(width=max(WIDTH, Console().width)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.decode",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_models(parser)
    add = parser.add_argument
    add("--temperature", type=float, default=0.0)
    add("--seed", type=int, default=0, help="of the first repetition; each has its own")
    add("--max-new-tokens", type=positive, default=128)
    add("--categories", type=_categories, default=CATEGORIES, help=f"of {','.join(SETS)}")
    add("--prompts", type=positive, default=5, help="questions a category")
    add("--repeats", type=positive, default=3)
    add("--methods", help="or method@source, separated by commas; all by default")
    add("--peers", type=_peers, default=list(PEERS), help=f"of {','.join(PEERS)}; may be empty")
    add("--minutes", type=float, default=float("inf"), help="begin nothing after so many")
    add("--smoke", action="store_true", help="short answers to example prompts, a few methods")
    add("--out", type=Path, default=Path("build/decode"), help="folder")
    return parser


def _categories(text: str) -> list[str]:
    return text.split(",")


def _peers(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    if unknown := set(names) - set(PEERS):
        raise argparse.ArgumentTypeError(f"got {', '.join(unknown)}, which is none")
    return names


def measure(
    session: Session,
    methods: Sequence[str],
    questions: Sequence[Question],
    params: SamplingParams,
    options: argparse.Namespace,
) -> Report:
    """Make the runs that are missing, and the picture of one."""
    stop_at = time.monotonic() + 60 * options.minutes
    max_len = _longest(session, questions, params)
    with open_engines(session.pair, methods, max_len) as engines:
        prompts = "examples" if options.smoke else "files"
        made_under = _made_under(session, engines[BASELINE], params, prompts)
        file = RunFile.open(options.out / "runs.jsonl", made_under)
        lanes = {
            lane
            for engine in engines.values()
            for lane in (engine.lanes.draft, engine.lanes.target)
        }
        peers = load_peers(session.pair, options.peers, lanes, max_len)
        field = _field(session, engines, peers, params)
        missing = missing_turns(field, questions, options.repeats, file)
        if missing:
            warm_up(field, questions[0])
        _run(field, missing, file, stop_at)
        _draw_lanes(engines, questions[0], params, options.out / "timeline.png")
    records = list(file.records.values())
    about = _about_before(options.out) | peers.about
    return Report(made_under, about, tabulate(records, [*methods, *PEERS]), records)


def _about_before(folder: Path) -> dict[str, str]:
    """What an earlier process wrote about its peers, whose runs the file may hold."""
    summary = folder / "summary.json"
    return json.loads(summary.read_text())["peers"] if summary.is_file() else {}


def _field(
    session: Session, engines: Mapping[str, Engine], peers: Peers, params: SamplingParams
) -> Field:
    ours = {method: of_engine(engine) for method, engine in engines.items()}
    process = f"{datetime.now(timezone.utc).isoformat()} {os.getpid()}"
    contenders = ours | peers.contenders
    return Field(session.pair, contenders, frozenset(ours), params, process)


def _run(
    field: Field, missing: Sequence[tuple[Question, list[Key]]], file: RunFile, stop_at: float
) -> None:
    """Turn by turn. The bar is redrawn between runs only: a timed run has the cores."""
    columns = (TextColumn("{task.description:>14}"), BarColumn(), MofNCompleteColumn())
    bar = Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), auto_refresh=False)
    with bar, suppress(KeyboardInterrupt):
        task = bar.add_task("", total=sum(len(keys) for _, keys in missing))
        for question, keys in missing:
            if time.monotonic() >= stop_at:
                return
            for key in run_turn(field, question, keys, file):
                bar.update(task, advance=1, description=key.contender, refresh=True)


def _draw_lanes(
    engines: Mapping[str, Engine], question: Question, params: SamplingParams, path: Path
) -> None:
    """One more request of `specbranch`, or of whatever drafts here, uncounted."""
    drafting = [method for method in engines if method != BASELINE]
    if path.is_file() or not drafting:
        return
    method = "specbranch" if "specbranch" in drafting else drafting[0]
    save_lanes(engines[method].generate(question.turns[0], params), path)


def _longest(session: Session, questions: Sequence[Question], params: SamplingParams) -> int:
    """Tokens of the longest conversation, at most."""
    answer = params.max_new_tokens + RETOKENISED
    return max(
        sum(len(session.pair.encode(turn)) + answer for turn in question.turns)
        for question in questions
    )


def _made_under(
    session: Session, baseline: Engine, params: SamplingParams, prompts: str
) -> dict[str, Any]:
    """What all runs of a file share."""
    made_under = session.environment(baseline.lanes)
    del made_under["date"]
    return made_under | {
        "commit": commit(),
        "prompts": prompts,
        "temperature": params.temperature,
        "max_new_tokens": params.max_new_tokens,
        "seed": params.seed,
    }


def _write(report: Report, folder: Path, command: str) -> None:
    save_picture(speedups(report), folder / "speedup.png")
    pictures = {"Speedup over plain decoding": "speedup.png"}
    if (folder / "timeline.png").is_file():
        pictures["A stretch of one request"] = "timeline.png"
    write_whole(folder / "summary.json", json.dumps(as_json(report), indent=1) + "\n")
    write_whole(folder / "README.md", markdown(report, pictures, command))


if __name__ == "__main__":
    main()
