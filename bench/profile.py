"""Where the time of both models goes, operator by operator: `python -m bench.profile`.

Decodes one example prompt under torch's profiler, from the second round on: the first holds the
prefill. The lanes are virtual, so that all work runs on one thread, where the profiler sees it;
every operator's own time counts, that of what it calls does not. `--trace FILE.json` writes the
timeline for chrome://tracing.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable

import torch
from rich.console import Console
from rich.table import Table
from torch.autograd.profiler_util import FunctionEventAvg
from torch.profiler import ProfilerActivity, profile

from bench.options import add_pair
from specbranch.costs.model import CostModel
from specbranch.engine import Engine
from specbranch.lanes import VirtualLanes
from specbranch.models import load_pair
from specbranch.policies import POLICIES, make_policy
from specbranch.prompts import EXAMPLE_PROMPTS
from specbranch.sampling import SamplingParams


def table(events: Iterable[FunctionEventAvg], rounds: int, top: int) -> Table:
    """The operators that take longest, and what is left."""
    ranked = sorted(events, key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in ranked)
    found = Table(title=f"{total / 1e3 / rounds:.1f} ms a round")
    for column in ("operator", "share", "calls a round"):
        found.add_column(column, justify="left" if column == "operator" else "right")
    for event in ranked[:top]:
        share = event.self_cpu_time_total / total
        found.add_row(event.key, f"{share:.1%}", f"{event.count / rounds:.1f}")
    rest = ranked[top:]
    share = sum(event.self_cpu_time_total for event in rest) / total
    calls = sum(event.count for event in rest) / rounds
    found.add_row(f"{len(rest)} others", f"{share:.1%}", f"{calls:.1f}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_pair(parser)
    parser.add_argument("--method", default="specbranch", choices=list(POLICIES))
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--top", type=int, default=12, help="operators to list")
    parser.add_argument("--trace", help="JSON file to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pair = load_pair(options.target, options.draft)
    params = SamplingParams(max_new_tokens=options.max_new_tokens)
    lanes = VirtualLanes(CostModel.parse("virtual:c=3"))
    with Engine(pair, make_policy(options.method), max_len=512, lanes=lanes) as engine:
        engine.generate(EXAMPLE_PROMPTS[0], params)
        chunks = iter(engine.stream(EXAMPLE_PROMPTS[0], params))
        next(chunks)
        with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU]) as profiler:
            rounds = sum(1 for _ in chunks)
    Console().print(table(profiler.key_averages(), rounds, options.top))
    if options.trace:
        profiler.export_chrome_trace(options.trace)


if __name__ == "__main__":
    main()
