"""Many requests at once: `python -m bench.serve`.

Each method serves the same requests, so many in flight at all times, one method after another in
one process. Prompts are cut from real ones; their lengths and the answers' are drawn
log-uniformly. Answers go on after an end-of-sequence token, so that they are as long as drawn.
`make prompts` fetches the prompts.
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

from bench import markdown
from bench.commit import commit
from bench.decoding.cases import CATEGORIES, EXAMPLES, by_turns, read_questions
from bench.options import add_models, open_session, positive
from bench.serve_peer import serve_by_transformers
from bench.served import SMOKE, Mix, Served, Wanted, draw_requests, figures
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
HEADER = ("in flight", "method", "tok/s", "over ar", "first token s, p50, p95")
HEADER += ("per token ms, p50, p95",)


def serve(
    engine: Engine, requests: Sequence[Wanted], in_flight: int, params: SamplingParams
) -> list[Served]:
    """Serve all requests, in one thread."""
    waiting = list(reversed(requests))
    live: list[tuple[GenerationStream, Served]] = []
    served = []
    while waiting or live:
        while waiting and len(live) < in_flight:
            each = Served(waiting.pop(), time.perf_counter())
            law = replace(params, max_new_tokens=each.wanted.new_tokens)
            live.append((engine.stream(each.wanted.prompt, law), each))
        engine.step()
        now = time.perf_counter()
        for stream, each in live:
            for chunk in stream.ready():
                each.note(len(chunk.token_ids), now)
        served += [each for stream, each in live if stream.generation]
        live = [each for each in live if not each[0].generation]
    return served


def measured(
    session: Session,
    methods: Sequence[str],
    loads: Sequence[int],
    requests: Sequence[Wanted],
    max_len: int,
    params: SamplingParams,
) -> Iterator[dict[str, Any]]:
    """A row for each method under each load. `PEER` among the methods is transformers."""
    pair = session.pair
    if PEER in methods:
        plain, _ = load_model("target", pair.target_name, pair.device, pair.dtype)
    for in_flight in loads:
        for method in methods:
            if method == PEER:
                row = figures(serve_by_transformers(plain, requests, in_flight, params, max_len))
            else:
                with session.engine(method, max_len, in_flight) as engine:
                    warm_up(engine, requests[0].prompt, params)
                    row = figures(serve(engine, requests, in_flight, params))
                    row |= {"rows": engine.stats()["rows"]}
            yield {"method": method, "in_flight": in_flight, **row}


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """In Markdown: tokens a second, over plain decoding's under the same load, and times."""
    plain = {row["in_flight"]: row["tokens_per_s"] for row in rows if row["method"] == "ar"}
    lines = []
    for row in rows:
        load, speed = row["in_flight"], row["tokens_per_s"]
        over = f"{speed / plain[load]:.2f}" if load in plain else "-"
        first = ", ".join(f"{value:.2f}" for value in row["first_token_s"].values())
        pace = ", ".join(f"{1e3 * value:.0f}" for value in row["per_token_s"].values())
        lines.append([str(load), row["method"], f"{speed:.1f}", over, first, pace or "-"])
    return markdown.table(HEADER, *lines)


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    mix = SMOKE if options.smoke else Mix(options.requests)
    methods = options.methods.split(",")
    loads = [positive(text) for text in options.loads.split(",")]
    questions = by_turns(EXAMPLES if options.smoke else read_questions(QUESTIONS, CATEGORIES))
    session = open_session(options, [method for method in methods if method != PEER])
    texts = [session.pair.encode(question.turns[0]) for question in questions]
    requests = draw_requests(mix, texts, random.Random(options.seed))
    params = SamplingParams(temperature=options.temperature, ignore_eos=True)
    rows = []
    for row in measured(session, methods, loads, requests, mix.longest, params):
        print(json.dumps(row), flush=True)
        rows.append(row)
    with session.engine("ar", mix.longest) as engine:
        env = session.environment(engine.lanes) | {"commit": commit()}
    result = {"env": env, "mix": asdict(mix), "rows": rows}
    write_whole(options.out / "serve.json", json.dumps(result, indent=1) + "\n")
    lines = [f"# Many requests at once, at {commit()}", "", *table(rows)]
    write_whole(options.out / "serve.md", "\n".join(lines) + "\n")
    print(f"{options.out}/serve.md")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.serve", description=__doc__)
    add_models(parser)
    add = parser.add_argument
    about = f"separated by commas; {PEER} is its continuous batching"
    add("--methods", default=METHODS, help=about)
    add("--loads", default="1,2,4,8", help="requests in flight, separated by commas")
    add("--requests", type=positive, default=32)
    add("--temperature", type=float, default=0.0)
    add("--seed", type=int, default=0, help="of the mix")
    add("--smoke", action="store_true", help="a few short requests")
    add("--out", type=Path, default=Path("build/serve"), help="folder")
    return parser


if __name__ == "__main__":
    main()
