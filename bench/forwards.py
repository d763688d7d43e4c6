"""What a forward costs by its rows, beside llama.cpp and transformers: `python -m bench.forwards`.

A context, and so many rows behind it, whose logits are all wanted: what a target does with a chain
of guesses. And a prompt that is read. Targets take turns, with one thread and with two. Ours are
of the weights in float32, bfloat16 and 4 bits; llama.cpp, where llama-cpp-python is installed, has
the target's file as it is shipped, in Q4_0, which it is fastest with, and in F32.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.console import Console
from rich.table import Table
from transformers import DynamicCache, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from bench import llama
from bench.commit import commit
from bench.measure import Call, Timing, take_turns
from bench.options import TARGET, positive
from specbranch.files import write_whole
from specbranch.info import environment
from specbranch.loading.pair import load_model, load_pair
from specbranch.models.block import BlockRows, Keep
from specbranch.models.runner import ModelRunner
from specbranch.models.support import cache_argument
from specbranch.prompts import EXAMPLE_PROMPTS

ROWS = (1, 2, 4, 8, 16)
CONTEXT = 200
PROMPT = 128  # tokens of the prompt that is read
READ = f"prompt of {PROMPT}"
OURS = {"fp32": ("float32", None), "bf16": ("bfloat16", None), "q4": ("float32", "q4")}


class Target(Protocol):
    """Someone's implementation of the target."""

    def with_threads(self, threads: int) -> None: ...

    def forward(self, rows: int) -> Call:
        """A call that computes the logits of so many rows behind the context."""
        ...

    def read(self) -> Call:
        """A call that reads the prompt."""
        ...


class Ours:
    """Our target, as the engine runs it."""

    def __init__(self, model: PreTrainedModel, text: Sequence[int]) -> None:
        self._runner = ModelRunner(model, max_len=CONTEXT, max_nodes=max(ROWS), max_requests=2)
        self._block, self._unread = self._runner.open(), self._runner.open()
        self._prompt = text[:PROMPT]
        self._next = text[CONTEXT:]
        self._runner.prefill(self._block, text[:CONTEXT])

    def with_threads(self, threads: int) -> None:
        torch.set_num_threads(threads)

    def forward(self, rows: int) -> Call:
        chain = BlockRows(self._block, self._next[:rows], list(range(-1, rows - 1)), rows)

        def call() -> None:
            self._runner.forward([chain])
            self._runner.keep([Keep(self._block, [], 0)])

        return call

    def read(self) -> Call:
        def call() -> None:
            self._unread.rewind(0)
            self._runner.prefill(self._unread, self._prompt)

        return call


class Transformers:
    """The same model by transformers' own forward."""

    def __init__(self, model: PreTrainedModel, text: Sequence[int]) -> None:
        self._model = model
        self._text = torch.tensor([text])
        self._cache = DynamicCache(config=model.config)
        self._cached = {cache_argument(model): self._cache}
        self._model(self._text[:, :CONTEXT], **self._cached)

    def with_threads(self, threads: int) -> None:
        torch.set_num_threads(threads)

    def forward(self, rows: int) -> Call:
        ids = self._text[:, CONTEXT : CONTEXT + rows]

        def call() -> None:
            self._model(ids, **self._cached)
            self._cache.crop(-rows)

        return call

    def read(self) -> Call:
        ids = self._text[:, :PROMPT]
        return lambda: self._model(ids, logits_to_keep=1)


class LlamaCpp:
    """llama.cpp with a file."""

    def __init__(self, path: Path, text: Sequence[int]) -> None:
        self._llama = llama.load(path, 1, len(text), logits_all=True)
        self._reader = llama.load(path, 1, len(text))
        self._prompt, self._next = text[:PROMPT], text[CONTEXT:]
        self._llama.eval(text[:CONTEXT])

    def with_threads(self, threads: int) -> None:
        import llama_cpp

        for each in (self._llama, self._reader):
            llama_cpp.llama_set_n_threads(each.ctx, threads, threads)

    def forward(self, rows: int) -> Call:
        def call() -> None:
            self._llama.n_tokens = CONTEXT
            self._llama.eval(self._next[:rows])  # which forgets what stands behind n_tokens

        return call

    def read(self) -> Call:
        def call() -> None:
            self._reader.n_tokens = 0
            self._reader.eval(self._prompt)

        return call


def targets(target: str) -> Iterator[tuple[str, Target]]:
    for name, (dtype, weights) in OURS.items():
        pair = load_pair(target, "self", dtype=dtype, target_weights=weights)
        text = (CONTEXT * pair.encode(EXAMPLE_PROMPTS[0]))[: CONTEXT + max(ROWS)]
        yield name, Ours(pair.target, text)
    plain, _ = load_model("target", target, torch.device("cpu"), torch.float32)
    yield "transformers fp32", Transformers(plain, text)
    for file_type, path in llama.files(target).items():
        yield f"llama.cpp {file_type}", LlamaCpp(path, text)


@torch.inference_mode()
def measure(field: Mapping[str, Target], threads: int, turns: int) -> dict[str, dict[str, Timing]]:
    """By what is computed, and by whom."""
    for each in field.values():
        each.with_threads(threads)

    def timed(call_of: Callable[[Target], Call]) -> dict[str, Timing]:
        calls = {name: call_of(each) for name, each in field.items()}
        return take_turns(calls, rounds=turns, at_least=turns)

    found = {str(rows): timed(lambda each, rows=rows: each.forward(rows)) for rows in ROWS}
    return found | {READ: timed(lambda each: each.read())}


def table(threads: int, found: Mapping[str, Mapping[str, Timing]]) -> Table:
    """Milliseconds, medians (and the least)."""
    shown = Table(title=f"{threads} threads, ms")
    shown.add_column("rows")
    for rows in found:
        shown.add_column(rows, justify="right")
    for name in found[READ]:
        times = [found[rows][name] for rows in found]
        shown.add_row(name, *(f"{1e3 * each.median:.1f} ({1e3 * each.min:.1f})" for each in times))
    return shown


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.forwards", description=__doc__)
    parser.add_argument("--target", default=TARGET)
    parser.add_argument("--threads", type=positive, nargs="+", default=[1, 2])
    parser.add_argument("--turns", type=positive, default=30)
    parser.add_argument("--out", type=Path, help="JSON")
    options = parser.parse_args(arguments)
    disable_progress_bar()
    with torch.inference_mode():
        field = dict(targets(options.target))
    results = {}
    for threads in options.threads:
        found = measure(field, threads, options.turns)
        Console(width=130).print(table(threads, found))
        results[threads] = as_json(found)
    if options.out is not None:
        about = environment(torch.device("cpu")) | {
            "commit": commit(),
            "context": CONTEXT,
            "target": options.target,
        }
        write_whole(options.out, json.dumps({"about": about, "seconds": results}, indent=1) + "\n")


def as_json(found: Mapping[str, Mapping[str, Timing]]) -> dict[str, Any]:
    return {
        rows: {name: [each.min, each.median, each.max] for name, each in times.items()}
        for rows, times in found.items()
    }


if __name__ == "__main__":
    main()
