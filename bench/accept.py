"""Are all methods' texts the target's own? `python -m bench.accept`, or `make accept`.

Every method, and a policy that acts at random, runs SmolLM2 on HumanEval prompts: two drafts, two
dtypes, lanes of one and of two threads. Greedy and sampled requests share each engine, some at a
time, which join as others leave. Each of their texts has to be the one that plain decoding writes
alone, with the same seed and all cores. On a GPU, where forwards of different row counts round
differently, a text also passes if it first differs where plain decoding itself nearly chose
otherwise. What is finished is kept in a folder as JSON; a run does what is lacking there. Exits 1
if a text does not pass.
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

from transformers.utils.logging import disable_progress_bar

from bench import markdown
from bench.commit import commit
from bench.options import TARGET, positive
from bench.prompts import fetch
from specbranch.comparison.baseline import BASELINE
from specbranch.comparison.divergence import Text, divergence
from specbranch.comparison.methods import options_by_method
from specbranch.comparison.session import Session
from specbranch.files import write_whole
from specbranch.generation import Generation
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
    """Who serves the requests. threads: of each lane, None on a GPU."""

    draft: str
    dtype: str
    threads: int | None
    method: str


class Asked(NamedTuple):
    """A request, and its setting's name."""

    task: PromptRecord
    setting: str
    params: SamplingParams


class Folder:
    """JSON that is made once, and read from then on by the same code."""

    def __init__(self, folder: Path, asked: Sequence[Asked], options: argparse.Namespace) -> None:
        self._folder = folder
        shape = f"{len(asked)}-texts_{options.max_new_tokens}-tokens_{options.requests}-at-once"
        self._start = f"{commit()}_{options.device}_{shape}"

    def keep(self, name: Sequence[Any], make: Callable[[], list[Outcome]]) -> list[Outcome]:
        parts = (str(part).rpartition(".")[2].replace(":", "-") for part in name)
        path = self._folder / ("_".join((self._start, *parts)) + ".json")
        if not path.is_file():
            write_whole(path, json.dumps(make(), indent=1) + "\n")
            print(path.name, file=sys.stderr, flush=True)
        found: list[Outcome] = json.loads(path.read_text())
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=sorted(DRAFTS))
    parser.add_argument("--drafts", help="separated by commas; those that the device runs")
    parser.add_argument("--dtypes", default=",".join(DTYPES), help="separated by commas")
    parser.add_argument("--methods", default=",".join(METHODS), help="separated by commas")
    parser.add_argument("--limit", type=positive, default=20, help="prompts")
    parser.add_argument("--max-new-tokens", type=positive, default=128)
    parser.add_argument("--requests", type=positive, default=8, help="at a time")
    parser.add_argument("--out", type=Path, default=Path("build/accept"), help="folder")
    options = parser.parse_args()
    disable_progress_bar()
    methods = options.methods.split(",")
    options_by_method(methods, {})  # refuses unknown ones
    drafts = options.drafts.split(",") if options.drafts else DRAFTS[options.device]
    threads = THREADS[options.device]
    asked = list(_asked(read_prompts(fetch("humaneval"), options.limit), options.max_new_tokens))
    cells = [
        Cell(*each)
        for each in itertools.product(drafts, options.dtypes.split(","), threads, methods)
    ]
    outcomes = list(_outcomes(cells, asked, options))
    _report(options.out, list(zip(cells, outcomes, strict=True)))
    sys.exit(0 if all(each["passes"] for each in itertools.chain(*outcomes)) else 1)


def _asked(tasks: Sequence[PromptRecord], tokens: int) -> Iterator[Asked]:
    for task, (setting, law) in itertools.product(tasks, SETTINGS.items()):
        yield Asked(task, setting, SamplingParams(max_new_tokens=tokens, **law))


def _outcomes(
    cells: Sequence[Cell], asked: Sequence[Asked], options: argparse.Namespace
) -> Iterator[list[Outcome]]:
    """Of each cell those of the requests, from its file if that is there."""
    folder = Folder(options.out, asked, options)

    @lru_cache(maxsize=1)
    def open_session(draft: str, dtype: str) -> Session:
        return Session(load_pair(TARGET, draft, device=options.device, dtype=dtype))

    for cell in cells:

        def alone(cell: Cell = cell) -> list[Outcome]:
            return _alone(open_session(cell.draft, cell.dtype), asked)

        def together(cell: Cell = cell) -> list[Outcome]:
            expected = folder.keep(("alone", cell.dtype), alone)
            session = open_session(cell.draft, cell.dtype)
            session = replace(session, draft_threads=cell.threads, target_threads=cell.threads)
            return _together(session, cell.method, asked, expected, options.requests)

        yield folder.keep(cell, together)


def _alone(session: Session, asked: Sequence[Asked]) -> list[Outcome]:
    """Plain decoding's texts, one after the other."""
    with session.engine(BASELINE, _max_len(session, asked)) as engine:
        found = [engine.generate(each.task.prompt, each.params) for each in asked]
    return [
        {"prompt_token_ids": each.prompt_token_ids, "token_ids": each.token_ids} for each in found
    ]


def _together(
    session: Session,
    method: str,
    asked: Sequence[Asked],
    expected: Sequence[Outcome],
    max_requests: int,
) -> list[Outcome]:
    """A method's texts, so many at a time, beside those that are expected."""
    with session.engine(method, _max_len(session, asked), max_requests) as engine:
        found = engine.generate(
            [each.task.prompt for each in asked], [each.params for each in asked]
        )
        env = session.environment(engine.lanes)
    texts = [Text(**each) for each in expected]
    return [
        {"task": each.task.id, "setting": each.setting}
        | _beside(session, generation, text, each.params)
        | {"token_ids": generation.token_ids, "env": env}
        for each, generation, text in zip(asked, found, texts, strict=True)
    ]


def _max_len(session: Session, asked: Sequence[Asked]) -> int:
    return max(
        len(session.pair.encode(each.task.prompt)) + each.params.max_new_tokens for each in asked
    )


def _beside(session: Session, found: Generation, expected: Text, params: SamplingParams) -> Outcome:
    parted = divergence(session.pair, found.token_ids, expected, params)
    near = parted is not None and parted.margin is not None and abs(parted.margin) < NEAR_TIE
    return {
        "passes": parted is None or (near and session.pair.device.type != "cpu"),
        "position": parted and parted.position,
        "margin": parted and parted.margin,
    }


def _report(folder: Path, found: Sequence[tuple[Cell, list[Outcome]]]) -> None:
    """Print and write how many of the texts are plain decoding's, and which are not."""
    counts: dict[tuple[str, ...], dict[str, list[bool]]] = {}
    parted = []
    for cell, outcomes in found:
        name = cell.method.rpartition(":")[2]
        for each in outcomes:
            row = counts.setdefault((*map(str, cell[:-1]), each["setting"]), {})
            row.setdefault(name, []).append(each["position"] is None)
            if each["position"] is not None:
                parted.append(
                    f"{cell} {each['setting']} {each['task']}: at token {each['position']}, "
                    f"by {each['margin']}"
                )
    header = ["draft", "dtype", "threads", "setting", *next(iter(counts.values()))]
    rows = [
        [*key, *(f"{sum(same)}/{len(same)}" for same in row.values())]
        for key, row in counts.items()
    ]
    lines = [f"# Texts that are plain decoding's own, of all, at {commit()}", ""]
    lines += [*markdown.table(header, *rows), "", "Others:"]
    lines += [f"- {line}" for line in parted or ["none"]]
    print(*lines, sep="\n")
    write_whole(folder / "accept.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
