"""Many requests of mixed lengths through one engine: `python -m bench.serve_mix`.

They come one after another. Does its speed hold, does its memory stay flat? Prompts are cut from
real ones; their lengths and the answers' are drawn log-uniformly. Answers go on after an
end-of-sequence token, so that they are as long as drawn. `make prompts` fetches the prompts.

A round commits several tokens at once, so there are two times between tokens. Between bursts: from
one round's tokens to the next one's, which a reader waits. Per token: that divided by the tokens of
the later round, each of them counted, which is the pace. A request's first round is in neither, but
in the time to first token.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from bench.decoding.answer import Answer, of_engine
from bench.decoding.cases import EXAMPLES, by_turns, read_questions
from bench.decoding.memory import held_bytes
from bench.options import add_models, open_session, positive
from specbranch.comparison.baseline import warm_up
from specbranch.engine import Engine
from specbranch.files import write_whole
from specbranch.pictures import save_picture
from specbranch.policies import POLICIES
from specbranch.sampling import SamplingParams

QUESTIONS = 20  # a category: what prompts are cut from
SETTLING = 0.2  # share of the requests before memory has to be flat
FLAT = 0.01  # by how much of itself it may then grow

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Mix:
    """How many requests, and their least and most tokens."""

    requests: int
    prompt_tokens: tuple[int, int] = (8, 256)
    new_tokens: tuple[int, int] = (4, 64)

    @property
    def longest(self) -> int:
        return self.prompt_tokens[1] + self.new_tokens[1]


SMOKE = Mix(6, (8, 32), (2, 6))


@dataclass(frozen=True, slots=True)
class Request:
    prompt: list[int]
    new_tokens: int


@dataclass(frozen=True, slots=True)
class Served:
    """A request, its answer, and the memory in use after it."""

    request: Request
    answer: Answer
    held_bytes: int


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    mix = SMOKE if options.smoke else Mix(options.requests)
    questions = by_turns(EXAMPLES if options.smoke else read_questions(QUESTIONS))
    session = open_session(options, [options.method])
    texts = [session.pair.encode(question.turns[0]) for question in questions]
    requests = draw_requests(mix, texts, random.Random(options.seed))
    params = SamplingParams(temperature=options.temperature, ignore_eos=True)
    with session.engine(options.method, mix.longest) as engine:
        warm_up(engine, requests[0].prompt, params)
        began = time.perf_counter()
        served = serve(engine, requests, params)
        seconds = time.perf_counter() - began
        env = session.environment(engine.lanes)
    options.out.mkdir(parents=True, exist_ok=True)
    result = {
        "env": env,
        "method": options.method,
        "temperature": options.temperature,
        "mix": asdict(mix),
        **figures(served, seconds),
    }
    write_whole(options.out / "serve-mix.json", json.dumps(result, indent=1) + "\n")
    save_picture(draw(served), options.out / "serve-mix.png")
    del result["runs"]
    print(json.dumps(result, indent=1))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.serve_mix",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_models(parser)
    add = parser.add_argument
    add("--method", default="specbranch", choices=list(POLICIES))
    add("--requests", type=positive, default=500)
    add("--temperature", type=float, default=0.0)
    add("--seed", type=int, default=0, help="of the mix")
    add("--smoke", action="store_true", help="a few short requests")
    add("--out", type=Path, default=Path("build/serve-mix"), help="folder")
    return parser


def draw_requests(
    mix: Mix, texts: Sequence[Sequence[int]], generator: random.Random
) -> list[Request]:
    """Requests of log-uniform lengths; prompts longer than a text go on with others."""
    requests = []
    for _ in range(mix.requests):
        length, prompt = _log_uniform(mix.prompt_tokens, generator), []
        while len(prompt) < length:
            prompt += generator.choice(texts)
        requests.append(Request(prompt[:length], _log_uniform(mix.new_tokens, generator)))
    return requests


def _log_uniform(bounds: tuple[int, int], generator: random.Random) -> int:
    least, most = bounds
    return min(most, int(math.exp(generator.uniform(math.log(least), math.log(most + 1)))))


def serve(engine: Engine, requests: Sequence[Request], params: SamplingParams) -> list[Served]:
    """Answer all requests in order."""
    answer, device = of_engine(engine), engine.pair.device
    served = []
    bar = Progress(console=Console(stderr=True), auto_refresh=False)
    with bar:
        for request in bar.track(requests, description="requests"):
            law = replace(params, max_new_tokens=request.new_tokens)
            served.append(Served(request, answer(request.prompt, law), held_bytes(device)))
            bar.refresh()
    return served


def figures(served: Sequence[Served], seconds: float) -> dict[str, Any]:
    """What the requests come to. seconds: of all of them, what is between them included."""
    answers = [each.answer for each in served]
    held = np.array([each.held_bytes for each in served], dtype=float)
    return {
        "requests": len(served),
        "seconds": seconds,
        "prompt_tokens": sum(len(each.request.prompt) for each in served),
        "tokens": sum(len(answer.token_ids) for answer in answers),
        "tokens_per_s": sum(len(answer.token_ids) for answer in answers) / seconds,
        "requests_per_s": len(served) / seconds,
        "first_token_s": _percentiles(np.array([answer.first_token_s for answer in answers])),
        "between_bursts_s": _percentiles(np.concatenate(list(map(between_bursts, answers)))),
        "per_token_s": _percentiles(np.concatenate(list(map(per_token, answers)))),
        "memory": memory_figures(held),
        "runs": [
            {
                "prompt_tokens": len(each.request.prompt),
                "tokens": len(each.answer.token_ids),
                "wall_s": each.answer.wall_s,
                "held_bytes": each.held_bytes,
            }
            for each in served
        ],
    }


def between_bursts(answer: Answer) -> Floats:
    """Seconds from one round's tokens to the next one's."""
    return np.diff(np.array(answer.arrivals, dtype=float))


def per_token(answer: Answer) -> Floats:
    """Those seconds over the tokens of the later round, once for each of them."""
    counts = np.array(answer.stats.accepted_lengths[1:], dtype=int)
    return np.repeat(between_bursts(answer) / counts, counts)


def memory_figures(held: Floats) -> dict[str, Any]:
    """Whether memory is flat once it has settled: the line of least squares through what was held
    after each request.

    held: bytes [requests]. growth: of that line from its first request to its last, as a share.
    """
    settled = held[int(SETTLING * len(held)) :]
    slope, start = np.polyfit(np.arange(len(settled)), settled, 1)
    growth = slope * (len(settled) - 1) / start
    return {
        "start_bytes": int(held[0]),
        "end_bytes": int(held[-1]),
        "most_bytes": int(held.max()),
        "bytes_per_request": float(slope),
        "growth": float(growth),
        "flat": bool(growth <= FLAT),
    }


def _percentiles(values: Floats) -> dict[str, float]:
    return {f"p{share}": float(np.percentile(values, share)) for share in (50, 95)}


def draw(served: Sequence[Served]) -> Figure:
    """Memory and pace over the requests."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    memory, pace = figure.subplots(2, 1, sharex=True)
    held = [each.held_bytes / 2**20 for each in served]
    memory.plot(held, color="#2a9fd6", linewidth=1)
    memory.set_ylim(0, 1.15 * max(held))
    memory.set_ylabel("memory in use, MiB")
    speeds = [len(each.answer.token_ids) / each.answer.wall_s for each in served]
    lengths = [len(each.request.prompt) for each in served]
    dots = pace.scatter(range(len(served)), speeds, c=lengths, s=8, cmap="viridis_r")
    pace.set_ylim(bottom=0)
    pace.set_ylabel("tok/s of a request")
    pace.set_xlabel("request")
    figure.colorbar(dots, ax=pace, label="prompt tokens")
    for axes in (memory, pace):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    main()
