"""The prompts that H-RAD is trained on: `python -m bench.hrad_prompts`.

Fifty of each task, none of them among those of the final figures or those that parameters are
swept on. The tasks take turns, so that any beginning of the file is balanced.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from bench.prompts import EVALUATION, fetch
from specbranch.files import write_whole
from specbranch.prompts import read_prompts

FILE = Path("build/hrad/prompts.jsonl")
TASKS = {"code": "humaneval", "math": "gsm8k", "chat": "mtbench"}
SWEEPS = 6  # prompts of each set that follow those of the final figures
PER_TASK = 50


def training_prompts() -> list[dict[str, str]]:
    """Lines of the file; the category is the task."""
    first = EVALUATION + SWEEPS
    by_task = (
        [
            {"category": task, "prompt": record.prompt}
            for record in read_prompts(fetch(name))[first : first + PER_TASK]
        ]
        for task, name in TASKS.items()
    )
    return [line for turn in zip(*by_task, strict=True) for line in turn]


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    lines = training_prompts()
    write_whole(FILE, "".join(json.dumps(line) + "\n" for line in lines))
    print(f"{FILE}: {len(lines)} prompts")


if __name__ == "__main__":
    main()
