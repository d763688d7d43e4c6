"""Many requests at once: `python -m bench.serve`.

Closed loops hold a number of requests in flight; Poisson arrivals come when they come. Each method
serves the same requests under each load, one after another in one process. Prompts are cut from
real ones; their lengths and the answers' are drawn log-uniformly. Answers go on after an
end-of-sequence token, so that they are as long as drawn. `make prompts` fetches the prompts.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import markdown
from bench.decoding.cases import CATEGORIES, EXAMPLES, by_turns, read_questions
from bench.decoding.memory import held_bytes
from bench.mix import SMOKE, Mix, Wanted, draw_requests
from bench.options import add_models, open_session, positive
from bench.serve_peer import serve_by_transformers
from bench.served import Load, Queue, Served, figures
from specbranch.comparison.baseline import warm_up
from specbranch.comparison.session import Session
from specbranch.engine import Engine
from specbranch.files import write_whole
from specbranch.generation import GenerationStream
from specbranch.loading.pair import load_model
from specbranch.sampling import SamplingParams

QUESTIONS = 20  # a category: what prompts are cut from
METHODS = "ar,specbranch,bestfirst,auto"
PEER = "transformers"


def serve(
    engine: Engine, requests: Sequence[Wanted], load: Load, params: SamplingParams, seed: int
) -> list[Served]:
    """Serve all requests as they come, in one thread."""
    start = time.perf_counter()
    waiting = Queue(requests, load, seed)
    live: list[tuple[GenerationStream, Served]] = []
    served = []
    while waiting or live:
        now = time.perf_counter() - start
        for each in waiting.come(now, len(live)):
            law = replace(params, max_new_tokens=each.wanted.new_tokens)
            live.append((engine.stream(each.wanted.prompt, law), each))
        if not live:
            time.sleep(max(0.0, waiting.next_due - now))
            continue
        engine.step()
        now = time.perf_counter() - start
        for stream, each in live:
            for chunk in stream.ready():
                each.note(len(chunk.token_ids), now)
            if stream.generation:
                each.held = held_bytes(engine.pair.device)
                served.append(each)
        live = [each for each in live if not each[0].generation]
    return served


def measured(
    session: Session,
    methods: Sequence[str],
    loads: Sequence[Load],
    requests: Sequence[Wanted],
    max_len: int,
    params: SamplingParams,
    seed: int,
) -> Iterator[dict[str, Any]]:
    """A row for each method under each load. `PEER` among the methods is transformers."""
    pair = session.pair
    if PEER in methods:
        plain, _ = load_model("target", pair.target_name, pair.device, pair.dtype)
    for load in loads:
        for method in methods:
            if method == PEER:
                served = serve_by_transformers(plain, requests, load, params, seed, max_len)
                row = figures(served)
            else:
                with session.engine(method, max_len, load.in_flight) as engine:
                    warm_up(engine, requests[0].prompt, params)
                    served = serve(engine, requests, load, params, seed)
                    row = figures(served) | {"rows": engine.stats()["rows"]}
            yield {"method": method, "load": str(load), **row}


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """In Markdown: tokens a second, over plain decoding's under the same load, and times."""
    plain = {row["load"]: row["tokens_per_s"] for row in rows if row["method"] == "ar"}
    header = [
        "load",
        "method",
        "tok/s",
        "over ar",
        "first token s, p50, p95",
        "per token ms, p50, p95",
    ]
    lines = []
    for row in rows:
        first, pace = row["first_token_s"], row["per_token_s"]
        lines.append(
            [
                row["load"],
                row["method"],
                f"{row['tokens_per_s']:.1f}",
                f"{row['tokens_per_s'] / plain[row['load']]:.2f}" if row["load"] in plain else "-",
                ", ".join(f"{value:.2f}" for value in first.values()) or "-",
                ", ".join(f"{1e3 * value:.0f}" for value in pace.values()) or "-",
            ]
        )
    return markdown.table(header, *lines)


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    mix = SMOKE if options.smoke else Mix(options.requests)
    methods = options.methods.split(",")
    loads = [Load.of(text) for text in options.loads.split(",")]
    questions = by_turns(EXAMPLES if options.smoke else read_questions(QUESTIONS, CATEGORIES))
    session = open_session(options, [method for method in methods if method != PEER])
    texts = [session.pair.encode(question.turns[0]) for question in questions]
    requests = draw_requests(mix, texts, random.Random(options.seed))
    params = SamplingParams(temperature=options.temperature, ignore_eos=True)
    rows = []
    for row in measured(session, methods, loads, requests, mix.longest, params, options.seed):
        print(json.dumps(row), flush=True)
        rows.append(row)
    options.out.mkdir(parents=True, exist_ok=True)
    with session.engine("ar", mix.longest) as engine:
        result = {"env": session.environment(engine.lanes), "mix": asdict(mix), "rows": rows}
    write_whole(options.out / "serve.json", json.dumps(result, indent=1) + "\n")
    write_whole(
        options.out / "serve.md", "\n".join(["# Many requests at once\n", *table(rows)]) + "\n"
    )
    Console().print(f"{options.out}/serve.md", highlight=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.serve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_models(parser)
    add = parser.add_argument
    add(
        "--methods", default=METHODS, help=f"separated by commas; {PEER} is its continuous batching"
    )
    add("--loads", default="1,2,4,8,poisson:0.5", help="separated by commas")
    add("--requests", type=positive, default=32)
    add("--temperature", type=float, default=0.0)
    add("--seed", type=int, default=0, help="of the mix and of arrivals")
    add("--smoke", action="store_true", help="a few short requests")
    add("--out", type=Path, default=Path("build/serve"), help="folder")
    return parser


if __name__ == "__main__":
    main()
