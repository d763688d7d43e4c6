"""Are all methods' texts the target's own? `python -m bench.accept`, or `make accept`.

Every method runs SmolLM2 on HumanEval prompts, greedy and sampled. A text passes if it equals that
of plain decoding with the same seed, or first differs from it where plain decoding itself nearly
chose otherwise: forwards of different row counts differ by rounding, in fp32 too. Each such
place is listed. Exits 1 if a text does not pass.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from bench import markdown
from bench.options import add_models, open_session
from bench.prompts import fetch
from specbranch.comparison.baseline import compare
from specbranch.comparison.report import (
    comparison_rows,
    divergence_lines,
    machine_line,
    terminal_table,
)
from specbranch.comparison.runs import Run
from specbranch.comparison.session import Session
from specbranch.comparison.summary import summarise
from specbranch.files import write_whole
from specbranch.policies import POLICIES
from specbranch.prompts import PromptRecord, read_prompts
from specbranch.sampling import SamplingParams

NEAR_TIE = 1e-3
SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampled": {"temperature": 0.7, "top_p": 0.95},
}
RUN_KEYS = ("method", "tokens_per_s", "speedup", "mean_accepted_length", "target_forwards")
RUN_KEYS += ("draft_forwards", "identical_to_ar", "first_divergence")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_models(parser)
    parser.add_argument("--limit", type=int, default=20, help="prompts")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="folder")
    options = parser.parse_args()
    tasks = read_prompts(fetch("humaneval"), options.limit)
    session = open_session(options, list(POLICIES))
    sections = []
    for name, sampling in SETTINGS.items():
        params = SamplingParams(max_new_tokens=options.max_new_tokens, **sampling)
        sections.append(accept(session, name, tasks, params))
    _write(options.out, sections)
    sys.exit(0 if all(section["accepted"] for section in sections) else 1)


def accept(
    session: Session, name: str, tasks: Sequence[PromptRecord], params: SamplingParams
) -> dict[str, Any]:
    """Run all methods under one setting: what the results file says about it."""
    prompts = [task.prompt for task in tasks]
    found = compare(session, list(POLICIES), prompts, params)
    total, stderr = len(POLICIES) * len(prompts), Console(stderr=True)
    runs = list(track(found, name, total, console=stderr, auto_refresh=False))
    summary = summarise(runs)
    console = Console()
    console.print(f"\n{name}", style="bold")
    console.print(terminal_table(comparison_rows(summary)))
    return {
        "setting": name,
        "params": asdict(params),
        "env": runs[0].env,
        "accepted": all(map(_passes, runs)),
        "divergences": divergence_lines(summary),
        "summary": summary,
        "runs": [
            {"task": task.id, **{key: run.as_json()[key] for key in RUN_KEYS}}
            for run, task in zip(runs, list(tasks) * len(POLICIES), strict=True)
        ],
    }


def _passes(run: Run) -> bool:
    if run.divergence is None:
        return True
    margin = run.divergence.margin
    return margin is not None and abs(margin) < NEAR_TIE


def _write(folder: Path, sections: Sequence[dict[str, Any]]) -> None:
    write_whole(folder / "accept.json", json.dumps(sections, indent=1) + "\n")
    texts = ["# Every method's texts beside plain decoding's\n", *map(_markdown, sections)]
    write_whole(folder / "accept.md", "\n".join(texts))


def _markdown(section: dict[str, Any]) -> str:
    header, *rows = comparison_rows(section["summary"])
    runs, params = len(section["runs"]) // len(rows), section["params"]
    lines = [
        f"## {section['setting']}: {'accepted' if section['accepted'] else 'NOT accepted'}",
        "",
        f"{runs} HumanEval prompts, {params['max_new_tokens']} tokens, "
        f"temperature {params['temperature']}, top-p {params['top_p']}, seed {params['seed']}; "
        f"{machine_line(section['env'])}",
        "",
        *markdown.table(header, *rows),
        "",
        f"Texts that part from plain decoding's (a margin below {NEAR_TIE:g} passes):",
        *[f"- {line}" for line in section["divergences"] or ["none"]],
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
