"""Are all methods' texts the target's own? `python -m bench.accept`, or `make accept`.

Every method, and a policy that acts at random, runs SmolLM2 on HumanEval prompts: two drafts, two
dtypes, lanes of one and of two threads, greedy and sampled. Each prompt under each of these is a
cell, whose outcome is kept as JSON in a folder; a run does the cells that are lacking there.
On a CPU a text passes if it is that of plain decoding with the same seed, which has all cores. On a
GPU, where forwards of different row counts round differently, also if it first differs where plain
decoding itself nearly chose otherwise. Exits 1 if a text does not pass.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from transformers.utils.logging import disable_progress_bar

from bench import markdown
from bench.options import TARGET, positive
from bench.prompts import fetch
from specbranch.comparison.baseline import BASELINE, compare
from specbranch.comparison.methods import options_by_method
from specbranch.comparison.report import terminal_table
from specbranch.comparison.runs import Run
from specbranch.comparison.session import Session
from specbranch.files import write_whole
from specbranch.loading.pair import load_pair
from specbranch.policies import POLICIES
from specbranch.prompts import PromptRecord, read_prompts
from specbranch.sampling import SamplingParams

NEAR_TIE = 1e-3  # on a GPU
DRAFTS = {
    "cpu": ("self:int4", "builtin:smollm2-draft"),
    "cuda": ("builtin:smollm2-draft",),
}
DTYPES = ("bfloat16", "float32")
THREADS = {"cpu": (1, 2), "cuda": (None,)}
SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampled": {"temperature": 0.7, "top_p": 0.95},
}
METHODS = (*POLICIES, "bench.random_policy:RandomPolicy")

Outcome = dict[str, Any]


class Cell(NamedTuple):
    """What one file of outcomes is about. threads: of each lane, None on a GPU."""

    draft: str
    dtype: str
    threads: int | None
    setting: str
    prompt: int

    def file(self, device: str, tokens: int) -> str:
        parts = (device, self.draft.replace(":", "-"), *self[1:], f"{tokens}-tokens")
        return "_".join(map(str, parts)) + ".json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=sorted(DRAFTS))
    parser.add_argument("--drafts", help="separated by commas; those that the device runs")
    parser.add_argument("--dtypes", default=",".join(DTYPES), help="separated by commas")
    parser.add_argument("--methods", default=",".join(METHODS), help="separated by commas")
    parser.add_argument("--limit", type=positive, default=20, help="prompts")
    parser.add_argument("--max-new-tokens", type=positive, default=128)
    parser.add_argument("--out", type=Path, default=Path("build/accept"), help="folder")
    options = parser.parse_args()
    disable_progress_bar()
    methods = [BASELINE, *(each for each in options.methods.split(",") if each != BASELINE)]
    options_by_method(methods, {})  # refuses unknown ones
    tasks = read_prompts(fetch("humaneval"), options.limit)
    drafts = options.drafts.split(",") if options.drafts else DRAFTS[options.device]
    cells = list(_cells(options.device, drafts, options.dtypes.split(","), len(tasks)))
    outcomes = list(_outcomes(cells, tasks, methods, options))
    _report(options.out, list(zip(cells, outcomes, strict=True)))
    sys.exit(0 if all(each["passes"] for each in itertools.chain(*outcomes)) else 1)


def _cells(
    device: str, drafts: Sequence[str], dtypes: Sequence[str], prompts: int
) -> Iterator[Cell]:
    for each in itertools.product(drafts, dtypes, THREADS[device], SETTINGS, range(prompts)):
        yield Cell(*each)


def _outcomes(
    cells: Sequence[Cell],
    tasks: Sequence[PromptRecord],
    methods: Sequence[str],
    options: argparse.Namespace,
) -> Iterator[list[Outcome]]:
    """Of each cell those of the methods, from its file as far as they are there."""

    @lru_cache(maxsize=1)
    def open_session(draft: str, dtype: str) -> Session:
        return Session(load_pair(TARGET, draft, device=options.device, dtype=dtype))

    for number, cell in enumerate(cells):
        path = options.out / cell.file(options.device, options.max_new_tokens)
        known = json.loads(path.read_text()) if path.is_file() else {}
        lacking = [method for method in methods if method not in known]
        if lacking:
            known |= _run(cell, tasks[cell.prompt], lacking, options.max_new_tokens, open_session)
            write_whole(path, json.dumps(known, indent=1) + "\n")
        print(f"{number + 1}/{len(cells)} {path.name}", file=sys.stderr, flush=True)
        yield [known[method] for method in methods]


def _run(
    cell: Cell,
    task: PromptRecord,
    methods: Sequence[str],
    tokens: int,
    open_session: Callable[[str, str], Session],
) -> dict[str, Outcome]:
    session = open_session(cell.draft, cell.dtype)
    session = replace(session, draft_threads=cell.threads, target_threads=cell.threads)
    params = SamplingParams(max_new_tokens=tokens, **SETTINGS[cell.setting])
    with_baseline = [BASELINE, *(each for each in methods if each != BASELINE)]
    runs = compare(session, with_baseline, [task.prompt], params)
    return {run.method: _outcome(run, task) for run in runs}


def _outcome(run: Run, task: PromptRecord) -> Outcome:
    parted = run.divergence
    near = parted is not None and parted.margin is not None and abs(parted.margin) < NEAR_TIE
    return {
        "task": task.id,
        "method": run.method,
        "passes": parted is None or (near and run.env["device"] != "cpu"),
        "position": parted and parted.position,
        "margin": parted and parted.margin,
        "token_ids": run.generation.token_ids,
        "env": run.env,
    }


def _report(folder: Path, found: Sequence[tuple[Cell, list[Outcome]]]) -> None:
    """Print and write how many of the texts are plain decoding's, and which are not."""
    counts: dict[tuple[str, ...], dict[str, list[bool]]] = {}
    parted = []
    for cell, outcomes in found:
        row = counts.setdefault(tuple(map(str, cell[:-1])), {})
        for each in outcomes[1:]:
            name = each["method"].rpartition(":")[2]
            row.setdefault(name, []).append(each["position"] is None)
            if each["position"] is not None:
                parted.append(f"{cell} {name}: at token {each['position']}, by {each['margin']}")
    methods = next(iter(counts.values()))
    header = ["draft", "dtype", "threads", "setting", *methods]
    rows = [
        [*key, *(f"{sum(same)}/{len(same)}" for same in row.values())]
        for key, row in counts.items()
    ]
    Console().print(terminal_table([header, *rows]))
    print(*parted, sep="\n")
    lines = ["# Texts that are plain decoding's own, of all\n", *markdown.table(header, *rows), ""]
    lines += ["Others:", *(f"- {line}" for line in parted or ["none"])]
    write_whole(folder / "accept.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
